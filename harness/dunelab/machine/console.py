# SPDX-License-Identifier: MIT
"""The guest's serial console: recorded from the first byte, searchable, watchable."""

from __future__ import annotations

import os
import re
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
from pexpect.spawnbase import SpawnBase

from dunelab.deadline import Deadline

if TYPE_CHECKING:
    _SpawnBase = SpawnBase[str]  # generic in its type stubs only
else:
    _SpawnBase = SpawnBase

Mark = int
"""A position in the console's text, from ``Console.mark``."""

_WAKE_SECONDS = 0.5
_DIALOGUE_SECONDS = 30.0


class Console:
    """Reads a descriptor in a thread of its own and keeps everything it said.

    The log file gets the raw bytes as they come, so that evidence survives
    whatever happens to the harness; ``text`` is the same without carriage
    returns.  The descriptor stays the caller's to close, at any time: what is
    read is a copy, so that the thread never meets a number that was closed
    under it and given to somebody else's file.
    """

    def __init__(self, fd: int, log: Path) -> None:
        self.log = log
        self._fd = os.dup(fd)
        self._grown = threading.Condition()
        self._text = ""
        self._ended = False
        self._wake_read, self._wake_write = os.pipe()
        self._thread = threading.Thread(target=self._read, name="dunelab-console", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the other side has hung up."""
        with self._grown:
            return self._ended

    def text(self) -> str:
        with self._grown:
            return self._text

    def mark(self) -> Mark:
        """The present end of the text, for ``since``."""
        with self._grown:
            return len(self._text)

    def since(self, mark: Mark) -> str:
        with self._grown:
            return self._text[mark:]

    def tail(self, lines: int = 20) -> str:
        """The last lines: what a person looks at first."""
        return "\n".join(self.text().rstrip("\n").splitlines()[-lines:])

    def send(self, data: bytes) -> None:
        """Type on the console."""
        os.write(self._fd, data)

    def dialogue(self) -> Dialogue:
        """A pexpect conversation on the console, from its present end on."""
        return Dialogue(self)

    def wait_for(
        self,
        pattern: str,
        deadline: Deadline,
        *,
        since: Mark = 0,
        abort: Callable[[], None] | None = None,
    ) -> re.Match[str]:
        """Wait until ``pattern`` (a multi-line regular expression) matches.

        ``abort`` is called whenever something changed, and at least twice a
        second; it ends the wait by raising.  It comes second to the pattern:
        what the console has said already counts.
        """
        expression = re.compile(pattern, re.MULTILINE)
        while True:
            with self._grown:
                seen = len(self._text)
                match = expression.search(self._text, since)
            if match is not None:
                return match
            if abort is not None:
                abort()
            deadline.check()
            self.wait_growth(seen, min(_WAKE_SECONDS, deadline.remaining()))

    def wait_growth(self, seen: int, seconds: float) -> bool:
        """Sleep until there is text beyond ``seen``; False when there was none."""
        with self._grown:
            if self._ended:
                self._grown.wait(min(seconds, 0.05))
            elif len(self._text) <= seen:
                self._grown.wait(seconds)
            return len(self._text) > seen

    def settle(self, quiet: float, deadline: Deadline) -> None:
        """Wait until nothing was said for ``quiet`` seconds: a splat is many lines."""
        while not deadline.expired and not self.ended:
            seen = self.mark()
            if not self.wait_growth(seen, min(quiet, deadline.remaining())):
                return

    def close(self) -> None:
        """Stop reading.  The log and the text stay."""
        if self._thread.is_alive():
            os.write(self._wake_write, b"x")
        self._thread.join(timeout=5)
        for fd in (self._wake_read, self._wake_write, self._fd):
            if fd >= 0:
                os.close(fd)
        self._wake_read = self._wake_write = self._fd = -1

    def _read(self) -> None:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        with self.log.open("ab", buffering=0) as log:
            while True:
                ready = [fd for fd, _event in poller.poll()]
                data = self._take() if self._fd in ready else b""
                if data:
                    log.write(data)
                    self._append(data)
                elif self._fd in ready or self._wake_read in ready:
                    break
        with self._grown:
            self._ended = True
            self._grown.notify_all()

    def _take(self) -> bytes:
        try:
            return os.read(self._fd, 65536)
        except OSError:
            # A pseudo terminal whose other side is gone answers EIO, a reset
            # socket ECONNRESET: for a console both are the end.
            return b""

    def _append(self, data: bytes) -> None:
        piece = data.decode("utf-8", "replace").replace("\r", "")
        with self._grown:
            self._text += piece
            self._grown.notify_all()


class Dialogue(_SpawnBase):
    """``expect`` and ``sendline`` on a console that is recorded all the same.

    pexpect's own descriptor class would take bytes away from the recorder, so
    this one reads what was recorded.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(encoding="utf-8")
        self._console = console
        self._position = console.mark()

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        """The next text, at most ``size`` characters of it."""
        until = time.monotonic() + (timeout if timeout is not None else _DIALOGUE_SECONDS)
        while not self._console.since(self._position):
            if self._console.ended:
                self.flag_eof = True
                raise pexpect.EOF("the console has ended")
            left = until - time.monotonic()
            if left <= 0:
                raise pexpect.TIMEOUT("the console is silent")
            self._console.wait_growth(self._position, left)
        text = self._console.since(self._position)[:size]
        self._position += len(text)
        return text

    def send(self, text: str) -> int:
        """Type ``text``."""
        data = text.encode()
        self._console.send(data)
        return len(data)

    def sendline(self, text: str = "") -> int:
        """Type ``text`` and press enter."""
        return self.send(text + "\n")
