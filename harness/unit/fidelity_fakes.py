# SPDX-License-Identifier: MIT
"""Units, their ends, and a guest that answers, for the tests of fidelity."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from dunelab import spec
from dunelab.deadline import Deadline
from dunelab.fidelity.catalogue import all_suites
from dunelab.fidelity.model import End, How, Pair, Test, UnitRun
from dunelab.fidelity.runner import PROOF, GuestKeeper, Job
from dunelab.fidelity.suites import Unit
from dunelab.images.store import Store
from dunelab.machine.machine import Machine
from dunelab.spec import CommandResult, EngineFacts, EngineName, Vendor

SUITES = all_suites(Store.open())
CPYTHON = SUITES["cpython"]
UNIT = Unit("cpython", "test_x", 10, True)
JOB = Job(CPYTHON, UNIT)


def events(*lines: dict[str, str]) -> str:
    return "".join(json.dumps(line) + "\n" for line in lines)


def start(name: str) -> dict[str, str]:
    return {"start": name}


def end(name: str, outcome: str, why: str = "") -> dict[str, str]:
    return {"end": name, "outcome": outcome, "why": why}


def one(how: How, **ends: End) -> UnitRun:
    tests = tuple(Test(name, end, "" if end is End.OK else "why") for name, end in ends.items())
    return UnitRun("cpython", "test_x", how, 1.0, tests)


def pair(native: dict[str, End], dune: dict[str, End]) -> Pair:
    return Pair(one(How.NATIVE, **native), one(How.DUNE, **dune))


Answer = Callable[[str], CommandResult]


class FakeMachine:
    """Answers unit.sh's command lines."""

    facts = EngineFacts(EngineName.TCG, "tcg", "QEMU 9.0.0", Vendor.AMD, "max", spec.Unit.TICKS)

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.commands: list[str] = []
        self.killed = False

    def run(self, text: str, deadline: Deadline, **options: Any) -> CommandResult:
        if "unit.sh" not in text:
            return CommandResult(text, 0, "", "", 0.0)
        self.commands.append(text)
        return self.answer(text)

    def push(self, local: Path, remote: str, mode: int) -> None:
        assert local.is_file()

    def kill(self) -> None:
        self.killed = True


def keeper_of(*machines: FakeMachine) -> GuestKeeper:
    left = list(machines)

    @contextlib.contextmanager
    def boot() -> Iterator[Machine]:
        yield cast(Machine, left.pop(0))

    return GuestKeeper(boot)


def fine(text: str) -> CommandResult:
    proof = f"{PROOF}, a vCPU\n" if "dune-run" in text else ""
    return CommandResult(text, 0, events(start("a"), end("a", "ok")), f"{proof}log", 1.0)
