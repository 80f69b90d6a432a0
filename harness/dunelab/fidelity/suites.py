# SPDX-License-Identifier: MIT
"""The suites: what units they have, how one is run, and how its output is read.

Reading is pure: exit status, events and log in, tests' ends out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from dunelab.errors import InfrastructureError
from dunelab.fidelity.model import WHOLE, End, Test
from dunelab.images.store import Store

GUEST_FOLDER = "/run/fidelity"
KILLED = 128 + 9
"""What timeout(1) -s KILL ends with."""

AskGuest = Callable[[str], str]
"""Run shell text in a guest and return its output."""

WHY_LINES = 12


@dataclass(frozen=True)
class Unit:
    """What is run in one go, with its limit on an emulator."""

    suite: str
    name: str
    seconds: float
    usual: bool


@dataclass(frozen=True)
class Ended:
    """How a unit's process ended and what it said."""

    status: int
    events: str
    log: str


class Suite(Protocol):
    """What the runner needs to know of a suite."""

    @property
    def name(self) -> str: ...

    @property
    def files(self) -> tuple[Path, ...]:
        """What has to lie in the guest's folder."""
        ...

    @property
    def setup(self) -> str:
        """Shell text for the guest's folder, once the files are there; may be empty."""
        ...

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        """All units, the usual ones first."""
        ...

    def command(self, unit: Unit) -> tuple[str, ...]:
        """What is run natively; dune-run gets the same."""
        ...

    def read(self, ended: Ended) -> tuple[Test, ...]:
        """The tests' ends, and the unit's own as ``WHOLE``."""
        ...


def guest_file(name: str) -> Path:
    """A file of this package that goes into the guest."""
    return Path(str(resources.files(__package__))) / "guest" / name


def last_lines(text: str, lines: int = WHY_LINES) -> str:
    """The end of a text, without blank lines."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


# -- CPython ---------------------------------------------------------------------------


class CPython:
    """CPython's own test package, a module a unit, by a runner that tells each test's end."""

    name = "cpython"
    setup = ""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    @property
    def files(self) -> tuple[Path, ...]:
        return (guest_file("regrtest.py"),)

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        names = [*self._data["usual"], *self._data["others"]]
        found = ask(f"python3 -c {_quoted(_LIST_MODULES)} {' '.join(names)}")
        modules = [line.split() for line in found.splitlines()]
        missing = set(names) - {package for package, _name in modules}
        if missing:
            raise InfrastructureError(
                f"the guest's CPython has no {', '.join(sorted(missing))}",
                next_command="look at libpython3.13-testsuite in images/full.toml",
            )
        limits = self._data.get("limits", {})
        return tuple(
            Unit(
                self.name,
                module,
                float(limits.get(module, self._data["seconds"])),
                package in self._data["usual"],
            )
            for package, module in modules
        )

    def command(self, unit: Unit) -> tuple[str, ...]:
        runner = f"{GUEST_FOLDER}/regrtest.py"
        also = ("-u", ",".join(self._data["resources"]))
        python = ("python3", "-u", "-W", "default", "-bb")
        return (*python, runner, "-v", *also, f"test.{unit.name}")

    def read(self, ended: Ended) -> tuple[Test, ...]:
        return read_tests(ended)


_LIST_MODULES = """
import os, sys, test
for name in sys.argv[1:]:
    folder = os.path.join(os.path.dirname(test.__file__), name)
    if os.path.isdir(folder):
        files = sorted(os.listdir(folder))
        for file in files:
            if file.startswith("test_") and file.endswith(".py"):
                print(name, name + "." + file[:-3])
        if not any(file.startswith("test_") for file in files):
            print(name, name)
    elif os.path.exists(folder + ".py"):
        print(name, name)
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def read_events(text: str) -> tuple[tuple[Test, ...], str | None]:
    """The tests' ends from regrtest.py's lines, and the test that has none."""
    ends: dict[str, Test] = {}
    running: str | None = None
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut off by the end of the process
        if "start" in event:
            running = event["start"]
            continue
        name = event["end"]
        running = None if name == running else running
        known = ends.get(name)
        if known is None or known.end is not End.FAILED:  # a failed subtest is the test's end
            ends[name] = Test(name, End(event["outcome"]), event["why"])
    return tuple(ends.values()), running


def read_tests(ended: Ended) -> tuple[Test, ...]:
    """The ends of a unit's tests, and the unit's own: that of the test it ended in."""
    tests, running = read_events(ended.events)
    whole = _whole(ended)
    if running is not None:
        tests = (*tests, Test(running, whole.end, whole.why))
        whole = Test(WHOLE, whole.end, f"in {running}")
    return (*tests, whole)


def _whole(ended: Ended) -> Test:
    """regrtest's statuses 0 to 9 mean that it came to its end."""
    if ended.status == KILLED:
        return Test(WHOLE, End.HUNG, last_lines(ended.log))
    if ended.status >= 128:
        signal = ended.status - 128
        return Test(WHOLE, End.CRASHED, f"signal {signal}\n{last_lines(ended.log)}")
    if ended.status > 9:
        return Test(WHOLE, End.CRASHED, f"status {ended.status}\n{last_lines(ended.log)}")
    return Test(WHOLE, End.OK)


# -- gnulib ----------------------------------------------------------------------------


class Gnulib:
    """gnulib's tests of the C library, a program a unit, in a folder with all of them."""

    name = "gnulib"
    setup = "mkdir -p gnulib && tar -x -z -f gnulib.tar.gz -C gnulib"

    def __init__(self, data: Mapping[str, Any], store: Store) -> None:
        self._data = data
        self._store = store

    @property
    def files(self) -> tuple[Path, ...]:
        return (self._store.suite_programs(self.name),)

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        usual = self._data["usual"]
        tests = sorted(
            self._store.suite_recipe(self.name).tests, key=lambda name: (name not in usual, name)
        )
        seconds = float(self._data["seconds"])
        return tuple(Unit(self.name, name, seconds, name in usual) for name in tests)

    def command(self, unit: Unit) -> tuple[str, ...]:
        # Some start themselves, by their name alone.
        text = f'ln -s {GUEST_FOLDER}/gnulib/* . && PATH=.:$PATH && exec "$0"'
        return ("sh", "-c", text, f"./test-{unit.name}")

    def read(self, ended: Ended) -> tuple[Test, ...]:
        return (read_program(ended),)


_SKIPPED = 77


def read_program(ended: Ended) -> Test:
    """One program's end, by the statuses that automake's tests have."""
    why = last_lines(ended.log)
    if ended.status == KILLED:
        return Test(WHOLE, End.HUNG, why)
    if ended.status > 128:
        return Test(WHOLE, End.CRASHED, f"signal {ended.status - 128}\n{why}")
    if ended.status == _SKIPPED:
        return Test(WHOLE, End.SKIPPED, why)
    if ended.status == 0:
        return Test(WHOLE, End.OK)
    return Test(WHOLE, End.FAILED, f"status {ended.status}\n{why}")


# -- stress-ng -------------------------------------------------------------------------


class StressNg:
    """stress-ng's stressors of some classes, a stressor a unit, each with few operations."""

    name = "stress-ng"
    files: tuple[Path, ...] = ()
    setup = ""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data

    def units(self, ask: AskGuest) -> tuple[Unit, ...]:
        classes = self._data["classes"]
        said = ask("; ".join(f"stress-ng --class {name}?" for name in classes))
        found = read_classes(said)
        missing = [name for name in classes if not found.get(name)]
        if missing:
            raise InfrastructureError(f"stress-ng has no class {missing[0]}; it said:\n{said}")
        usual = {s for name in self._data["usual_classes"] for s in found[name]}
        every = sorted({s for name in classes for s in found[name]})
        return tuple(
            Unit(self.name, stressor, float(self._data["seconds"]), stressor in usual)
            for stressor in sorted(every, key=lambda s: (s not in usual, s))
        )

    def command(self, unit: Unit) -> tuple[str, ...]:
        ops, seconds = self._data["ops"], self._data["run_seconds"]
        one = (f"--{unit.name}", "1", f"--{unit.name}-ops", str(ops))
        return ("stress-ng", *one, "-t", f"{seconds}s", "--verify", "--oom-avoid")

    def read(self, ended: Ended) -> tuple[Test, ...]:
        return (read_stressor(ended),)


def read_classes(text: str) -> dict[str, tuple[str, ...]]:
    """What ``stress-ng --class NAME?`` prints: its stressors."""
    lines = re.findall(r"class '([\w-]+)' stressors: (.*)", text)
    return {name: tuple(stressors.split()) for name, stressors in lines}


# Statuses of stress-ng(1).
_NO_RESOURCE, _NOT_IMPLEMENTED, _UNTRUSTED_METRICS = 3, 4, 7


def read_stressor(ended: Ended) -> Test:
    """One stressor's end, from its status and its summary."""
    why = last_lines(_without_chatter(ended.log))
    if ended.status == KILLED:
        return Test(WHOLE, End.HUNG, why)
    if ended.status >= 128:
        return Test(WHOLE, End.CRASHED, f"signal {ended.status - 128}\n{why}")
    skipped = re.search(r"skipped: [1-9]", ended.log)
    if ended.status in (_NO_RESOURCE, _NOT_IMPLEMENTED) or (skipped and ended.status == 0):
        return Test(WHOLE, End.SKIPPED, why)
    if ended.status in (0, _UNTRUSTED_METRICS):
        return Test(WHOLE, End.OK)
    return Test(WHOLE, End.FAILED, f"status {ended.status}\n{why}")


def _without_chatter(log: str) -> str:
    keep: Iterable[str] = (
        line
        for line in log.splitlines()
        if not re.search(r"(passed|failed|skipped|metrics untrustworthy): 0$", line)
        and "setting to" not in line
    )
    return "\n".join(keep)


def select(units: Sequence[Unit], only: Sequence[str], everything: bool) -> tuple[Unit, ...]:
    """The units that were asked for: by name, all, or the usual ones."""
    if only:
        return tuple(u for u in units if any(fnmatchcase(u.name, glob) for glob in only))
    return tuple(unit for unit in units if everything or unit.usual)
