# SPDX-License-Identifier: MIT
"""The guests of one worker: started lazily, reused, rested, replaced, ended.

At most one guest of a worker runs.  When the worker turns to another guest the
earlier one is paused; beside the wanted one only the latest of these is kept, as
memory is not free.  A guest that died or was damaged is never handed out again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, DunelabError, GuestDied
from dunelab.pytest_support.header import Variant
from dunelab.pytest_support.lab import Booted, GuestMachine, Lab
from dunelab.pytest_support.slots import Slots
from dunelab.results.schema import RanOn
from dunelab.spec import Cell

KEPT_BESIDE = 1
SLOT_SECONDS = 3600.0


@dataclass
class Guest:
    """A booted guest with what is known about it.

    ``scanned`` is the console position up to which splats were looked for;
    ``last_test`` is who ran last, to blame late splats on.
    """

    cell: Cell
    variant: Variant
    booted: Booted
    ran_on: RanOn
    scanned: int = 0
    last_test: str | None = None
    damaged: str | None = None
    pushed: set[str] = field(default_factory=set)

    @property
    def machine(self) -> GuestMachine:
        return self.booted.machine

    @property
    def usable(self) -> bool:
        return self.damaged is None and self.machine.alive


Key = tuple[Cell, Variant]
Farewell = Callable[[Guest], None]


class GuestPool:
    """See the module's text.  ``farewell`` looks at a guest a last time."""

    def __init__(
        self,
        lab: Lab,
        slots: Slots,
        *,
        fresh: bool = False,
        farewell: Farewell = lambda guest: None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._lab = lab
        self._slots = slots
        self._fresh = fresh
        self._farewell = farewell
        self._progress = progress
        self._guests: dict[Key, Guest] = {}
        self._running: Key | None = None
        self._unbuildable: dict[str, BuildFailed] = {}

    def guest(self, cell: Cell, variant: Variant) -> Guest:
        """The running guest of this kind, booted if there is none fit for use."""
        key = (cell, variant)
        if self._running is not None and self._running != key:
            self._pause(self._running)
        self._slots.take(Deadline.after(SLOT_SECONDS, "free slot for a guest"))
        for older in [other for other in self._guests if other != key][:-KEPT_BESIDE]:
            self._end(older)
        held = self._guests.get(key)
        if held is not None and (self._fresh or not held.usable):
            self._end(key)
            held = None
        if held is None:
            held = self._boot(cell, variant)
            self._guests[key] = held
        self._running = key
        held.machine.resume()
        return held

    def rest(self) -> None:
        """Nothing runs from here on until the next ``guest``."""
        if self._running is not None:
            self._pause(self._running)
        self._slots.give_back()

    @contextlib.contextmanager
    def set_aside(self) -> Iterator[None]:
        """Rest all guests and lend their slot to a machine that is not the pool's."""
        self.rest()
        self._slots.take(Deadline.after(SLOT_SECONDS, "free slot for a guest"))
        try:
            yield
        finally:
            self._slots.give_back()

    def close(self) -> None:
        """End all guests."""
        for key in list(self._guests):
            self._end(key)
        self._slots.give_back()

    def held(self) -> list[Guest]:
        """The guests that exist now."""
        return list(self._guests.values())

    def _boot(self, cell: Cell, variant: Variant) -> Guest:
        known = self._unbuildable.get(cell.kernel)
        if known is not None:
            # The sources are not read again: one broken build, one attempt.
            raise known
        self._progress(f"starting {cell} ({variant})")
        try:
            booted = self._lab.boot(cell, variant, fresh=self._fresh)
        except BuildFailed as error:
            self._unbuildable[cell.kernel] = error
            raise
        machine = booted.machine
        self._progress(f"{cell} is up after {machine.boot_seconds:.1f} s")
        ran_on = RanOn.of(
            machine.facts,
            cell=str(cell),
            kernel=cell.kernel,
            release=booted.builds.release,
            module_build_id=booted.builds.module_build_id,
            libdune_build_id=booted.builds.libdune_build_id,
            cpus=variant.cpus,
            image=variant.image,
            boot_seconds=machine.boot_seconds,
            kernel_package=booted.builds.kernel_package,
            compiler=booted.builds.compiler,
        )
        return Guest(cell, variant, booted, ran_on)

    def _pause(self, key: Key) -> None:
        guest = self._guests.get(key)
        self._running = None
        if guest is None:
            return
        if not guest.usable:
            self._end(key)
            return
        guest.machine.pause()
        # Python's dictionaries keep order: the one paused last goes to the end.
        self._guests[key] = self._guests.pop(key)

    def _end(self, key: Key) -> None:
        guest = self._guests.pop(key)
        if self._running == key:
            self._running = None
        try:
            self._let_go(guest)
        finally:
            guest.booted.dispose()

    def _let_go(self, guest: Guest) -> None:
        if not guest.usable:
            guest.machine.kill()
            return
        try:
            guest.machine.resume()
            self._farewell(guest)
            with contextlib.suppress(GuestDied):
                guest.machine.power_off(Deadline.after(20, "power-off"))
        except DunelabError:
            # The tests on it are over and recorded; what is left is to end it.
            guest.machine.kill()
