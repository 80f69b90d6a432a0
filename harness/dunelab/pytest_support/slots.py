# SPDX-License-Identifier: MIT
"""How many guests may run at once on this machine, over all workers of a run.

An emulator burns a core whatever its guest does, so more running guests than
cores only make every deadline wrong.  A slot is a file lock: the kernel frees
it with its holder, whatever way that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from dunelab.deadline import Deadline

_POLL_SECONDS = 0.2
# Who has just given a slot back lets the others look first; file locks have no queue.
_COURTESY_SECONDS = 3 * _POLL_SECONDS


def default_slots() -> int:
    """One running guest per core, but two even on a single one."""
    return max(2, len(os.sched_getaffinity(0)))


class Slots:
    """``count`` locks in a folder that the workers of one run share."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._count = count
        self._held: int | None = None
        self._given_back = float("-inf")

    @property
    def held(self) -> bool:
        return self._held is not None

    def take(self, deadline: Deadline) -> None:
        """Wait for a slot; having one already is fine."""
        if self._held is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        since = time.monotonic() - self._given_back
        if since < _COURTESY_SECONDS:
            time.sleep(_COURTESY_SECONDS - since)
        while True:
            for number in range(self._count):
                if self._try(self._folder / f"slot-{number}"):
                    return
            deadline.check()
            time.sleep(min(_POLL_SECONDS, deadline.remaining()))

    def give_back(self) -> None:
        """Let another worker run a guest."""
        if self._held is not None:
            os.close(self._held)
            self._held = None
            self._given_back = time.monotonic()

    def _try(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True
