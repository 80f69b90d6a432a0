# SPDX-License-Identifier: MIT
"""Notices that a guest is dead, and says what of, before any deadline does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.engines.base import Instance
from dunelab.engines.process import describe_exit
from dunelab.errors import DeadlineExpired, DunelabError, GuestDied
from dunelab.machine.console import Console

_SETTLE_QUIET = 0.4
_SETTLE_LIMIT = 5.0
_SCAN_PAUSE = 0.1


class SplatLike(Protocol):
    """What this layer needs to know of a splat found on a console."""

    @property
    def title(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def fatal(self) -> bool: ...


SplatFinder = Callable[[str], Sequence[SplatLike]]


class GuestCrashed(GuestDied):
    """A dead guest with its evidence: ``kind`` is panic, exited or hung."""

    def __init__(
        self, kind: str, what: str, *, console_log: Path, splats: Sequence[SplatLike] = ()
    ) -> None:
        self.kind = kind
        self.splats = tuple(splats)
        super().__init__(what, evidence=console_log)


class CommandTimeout(DunelabError):
    """A command overran its deadline in a guest that is alive and answers.

    Neither a dead guest nor a broken bench: the program under test hangs.
    """


class Watch:
    """Looks at one machine's process and console.  Cheap to call often."""

    def __init__(self, instance: Instance, console: Console, finder: SplatFinder | None) -> None:
        self._instance = instance
        self._console = console
        self._finder = finder
        self._scanned = 0
        self._scanned_at = 0.0
        self._expected_end = False
        self._death: GuestCrashed | None = None

    def expect_end(self) -> None:
        """From now on a process that ends has ended on purpose."""
        self._expected_end = True

    def check(self) -> None:
        """Raise GuestCrashed when the guest is dead; once dead, always."""
        if self._death is not None:
            raise self._death
        try:
            self._look()
        except GuestCrashed as death:
            self._death = death
            raise

    def _look(self) -> None:
        status = self._instance.poll()
        if status is not None and not self._expected_end:
            self._console.settle(0.2, Deadline.after(2, "the console's end"))
            self._raise_splat()
            raise GuestCrashed(
                "exited",
                f"the emulator's process ended ({describe_exit(status)}) without a splat on "
                f"the console; it said:\n{self._engine_tail()}\nlast console lines:\n"
                f"{self._console.tail()}",
                console_log=self._console.log,
            )
        now = time.monotonic()
        if self._console.mark() == self._scanned or now - self._scanned_at < _SCAN_PAUSE:
            return
        self._scanned = self._console.mark()
        self._scanned_at = now
        if self._fatal():
            self._console.settle(_SETTLE_QUIET, Deadline.after(_SETTLE_LIMIT, "the splat's end"))
            self._raise_splat()

    def splats(self, since: int = 0) -> Sequence[SplatLike]:
        """All splats since a console mark, the survivable ones included."""
        return self._finder(self._console.since(since)) if self._finder else ()

    def hung(self, what: str) -> GuestCrashed:
        """The verdict on a guest that runs and does not answer."""
        with contextlib.suppress(DeadlineExpired):
            self._console.settle(0.2, Deadline.after(1, "the console"))
        self._death = GuestCrashed(
            "hung",
            f"the guest hung: {what}; its emulator (pid {self._instance.pid}) still runs\n"
            f"last console lines:\n{self._console.tail()}",
            console_log=self._console.log,
            splats=self.splats(),
        )
        return self._death

    def _fatal(self) -> bool:
        return any(splat.fatal for splat in self.splats())

    def _raise_splat(self) -> None:
        splats = self.splats()
        fatal = [splat for splat in splats if splat.fatal]
        if not fatal:
            return
        first = fatal[0]
        extra = self._engine_tail()
        said = f"\nthe emulator said:\n{extra}" if extra else ""
        raise GuestCrashed(
            "panic",
            f"the guest died: {first.title}\n{first.text}{said}",
            console_log=self._console.log,
            splats=splats,
        )

    def _engine_tail(self) -> str:
        return self._instance.diagnostics().strip()
