# SPDX-License-Identifier: MIT
"""The ladder of machine states: boot once, save, restore ever after.

A state is filed in the image cache under a digest of the image, the emulator's
version and the whole shape of the machine, so a stale one is never found.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.engines.base import Engine
from dunelab.machine.machine import Machine, Progress
from dunelab.machine.watch import SplatFinder
from dunelab.spec import MachineSpec

_FILE = "state"
_KIND = "states"


class StateCache(Protocol):
    """What is needed of ``dunelab.images.cache.Cache``."""

    def has(self, kind: str, digest: str) -> bool: ...

    def get_or_make(
        self, kind: str, digest: str, make: StateMaker, deadline: Deadline | None = None
    ) -> Path: ...


class StateMaker(Protocol):
    """Fills a folder of the cache."""

    def __call__(self, folder: Path, /) -> None: ...


def boot_or_restore(
    cache: StateCache,
    engine: Engine,
    spec: MachineSpec,
    deadline: Deadline,
    splat_finder: SplatFinder | None = None,
    progress: Progress = lambda text: None,
) -> Machine:
    """A running machine by the shortest way its engine knows.

    The first machine of a kind is booted, saved and let go on; later ones are
    restored from what it left.  An icount machine is always booted: its figures
    must not depend on where a state was taken.
    """
    if not engine.can_save or spec.icount:
        return Machine.boot(engine, spec, deadline, splat_finder, progress)
    key = engine.state_key(spec)
    booted: list[Machine] = []

    def make(folder: Path) -> None:
        machine = Machine.boot(engine, spec, deadline, splat_finder, progress)
        try:
            machine.save(folder / _FILE, deadline)
        except BaseException:
            machine.kill()
            raise
        booted.append(machine)

    try:
        folder = cache.get_or_make(_KIND, key, make, deadline)
    except BaseException:
        for machine in booted:
            machine.kill()
        raise
    if booted:
        return booted[0]
    return Machine.boot(engine, spec, deadline, splat_finder, progress, restore_from=folder / _FILE)
