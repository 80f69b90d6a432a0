# SPDX-License-Identifier: MIT
"""Before and after each test: mark the console, then read what the kernel said.

A program that passes while the kernel complains has not passed.  The end mark
is awaited on the console, which proves that all earlier lines have arrived.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dunelab.deadline import Deadline
from dunelab.errors import DunelabError, GuestDied
from dunelab.pytest_support.lab import Builds
from dunelab.pytest_support.pool import Guest
from dunelab.results import symbols
from dunelab.results.allowlist import Allowed, unexpected
from dunelab.results.splat import Position, Splat, begin_marker, end_marker, find_splats

_ARRIVAL_SECONDS = 20.0


class SplatSeen(AssertionError):
    """The kernel complained during a test, and the guest lives."""

    def __init__(self, what: str, splats: Sequence[Splat]) -> None:
        super().__init__(what)
        self.splats = tuple(splats)


class SplatMissing(AssertionError):
    """A test expected the kernel to complain, and it did not."""


@dataclass(frozen=True)
class Late:
    """Splats that appeared once their test had ended."""

    test: str
    splats: tuple[Splat, ...]


@dataclass
class ConsoleWatch:
    """Guards the tests of one worker."""

    allowed: tuple[Allowed, ...] = ()
    today: datetime.date = field(default_factory=datetime.date.today)

    def begin(self, guest: Guest, test: str) -> Late | None:
        """Mark the start; returns what came late from the test before."""
        start = guest.machine.mark(begin_marker(test))
        late = self._late(guest, guest.machine.console.since(guest.scanned), start)
        guest.scanned = start
        guest.last_test = test
        return late

    def end(self, guest: Guest, test: str) -> tuple[tuple[Splat, ...], Late | None]:
        """Mark the end; the test's own splats, and those already late for it.

        Allowed ones are left out.  Never raises for a dead guest: what its
        console holds is what there is.
        """
        machine = guest.machine
        try:
            machine.mark(end_marker(test))
            machine.wait_for_console(
                f"dunelab: {re.escape(end_marker(test))}",
                Deadline.after(_ARRIVAL_SECONDS, "the end mark on the console"),
                since=guest.scanned,
            )
        except GuestDied as death:
            guest.damaged = death.what
        except DunelabError as error:
            guest.damaged = error.what
        stop = machine.console.mark()
        splats = find_splats(machine.console.since(guest.scanned))
        guest.scanned = stop
        if splats and guest.damaged is None:
            # Once-only warnings are spent and an oops leaves locks held: the
            # next test gets a guest that has its alarms intact.
            guest.damaged = f"splat: {splats[0].title}"
        remaining = unexpected(splats, self.allowed, self.today)
        late = tuple(splat for splat in remaining if splat.blame.position is Position.AFTER)
        own = tuple(splat for splat in remaining if splat not in late)
        return own, Late(test, late) if late else None

    def farewell(self, guest: Guest) -> Late | None:
        """What came after the last test on a guest that is about to end."""
        return self._late(guest, guest.machine.console.since(guest.scanned), None)

    def _late(self, guest: Guest, text: str, start: int | None) -> Late | None:
        earlier = tuple(
            splat for splat in find_splats(text) if splat.blame.position is not Position.DURING
        )
        remaining = unexpected(earlier, self.allowed, self.today)
        if not remaining:
            return None
        return Late(guest.last_test or "boot", remaining)


def describe(splats: Sequence[Splat], builds: Builds) -> str:
    """The splats' own lines, with file and line behind each known frame."""
    tables = {
        name: symbols.SymbolTable.of(path)
        for name, path in builds.symbols.items()
        if any(frame.module == name for splat in splats for frame in splat.frames)
    }
    parts = []
    for splat in splats:
        found = symbols.resolve_frames(splat.frames, tables)
        lines = symbols.annotate(splat.lines, found)
        parts.append("\n".join([f"{splat.kind}: {splat.title} ({splat.blame})", *lines]))
    return "\n\n".join(parts)


def judge(splats: Sequence[Splat], expected: Sequence[str], builds: Builds) -> None:
    """Raise when the kernel said what it should not, or not what it should."""
    __tracebackhide__ = True
    missing = [
        pattern
        for pattern in expected
        if not any(re.search(pattern, splat.title) for splat in splats)
    ]
    surplus = [
        splat
        for splat in splats
        if not any(re.search(pattern, splat.title) for pattern in expected)
    ]
    if surplus:
        what = f"kernel splat: {surplus[0].title}\n{describe(surplus, builds)}"
        raise SplatSeen(what, surplus)
    if missing:
        seen = "; ".join(splat.title for splat in splats) or "none at all"
        raise SplatMissing(f"expected splat did not appear: {missing[0]!r} (seen: {seen})")
