# SPDX-License-Identifier: MIT
"""Suites that are programs: compiled here and run one by one by guest/programs.py, or
command lines of an installed package."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dunelab.fidelity.model import Test
from dunelab.fidelity.suites import (
    GUEST_FOLDER,
    AskGuest,
    Ended,
    Unit,
    guest_file,
    read_program,
    read_tests,
)
from dunelab.images.store import Store

_GUEST_RUNNER = "programs.py"


class Compiled:
    """A suite that is built here: a group of its tests is a unit.

    The tests are the archive's files, or the lines of its file ``list``.  What stands
    before ``groups_end_at`` in their names is the unit's.  ``left_out`` are globs.
    """

    def __init__(self, name: str, data: Mapping[str, Any], store: Store) -> None:
        self.name = name
        self._data = data
        self._store = store

    @property
    def files(self) -> tuple[Path, ...]:
        return (guest_file(_GUEST_RUNNER), self._store.suite_programs(self.name))

    @property
    def setup(self) -> str:
        return f"mkdir -p {self.name} && tar -x -z -f {self.name}.tar.gz -C {self.name}"

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        def usual(name: str) -> bool:
            return any(fnmatchcase(name, glob) for glob in self._data["usual"])

        names = sorted(self._groups(), key=lambda name: (not usual(name), name))
        seconds = float(self._data["seconds"])
        return tuple(Unit(self.name, name, seconds, usual(name)) for name in names)

    def command(self, unit: Unit) -> tuple[str, ...]:
        runner = ("python3", f"{GUEST_FOLDER}/{_GUEST_RUNNER}", str(self._data["each_seconds"]))
        command = self._data["command"].replace("FOLDER", f"{GUEST_FOLDER}/{self.name}")
        return (*runner, command, *self._groups()[unit.name])

    def read(self, ended: Ended) -> tuple[Test, ...]:
        return read_tests(ended)

    def _groups(self) -> dict[str, list[str]]:
        with tarfile.open(self._store.suite_programs(self.name)) as tar:
            names = _listed(tar)
        out = self._data.get("left_out", ())
        kept = [name for name in names if not any(fnmatchcase(name, glob) for glob in out)]
        return group(kept, self._data["groups_end_at"])


def _listed(tar: tarfile.TarFile) -> list[str]:
    files = [member.name for member in tar if member.isfile()]
    if "list" not in files:
        return files
    listed = tar.extractfile("list")
    return listed.read().decode().split() if listed else []


def group(names: Iterable[str], end: str) -> dict[str, list[str]]:
    """Tests by what stands before ``end`` in their names; 2-1 comes before 10-1."""
    found: dict[str, list[str]] = {}
    for name in sorted(names, key=_natural):
        found.setdefault(name.partition(end)[0], []).append(name)
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(digits or 0), rest) for digits, rest in re.findall(r"(\d*)(\D*)", name)]


class RtTests:
    """rt-tests: timers, signals, semaphores, queues, priorities; a command line a unit."""

    name = "rt-tests"
    files: tuple[Path, ...] = ()
    setup = ""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        seconds = float(self._data["seconds"])
        return tuple(Unit(self.name, name, seconds, True) for name in self._data["commands"])

    def command(self, unit: Unit) -> tuple[str, ...]:
        return ("sh", "-c", f"exec {self._data['commands'][unit.name]}")

    def read(self, ended: Ended) -> tuple[Test, ...]:
        return (read_program(ended),)
