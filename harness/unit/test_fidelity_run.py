# SPDX-License-Identifier: MIT
"""Fidelity: units run in guests, both ways, again where they differ, and are remembered."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from fidelity_fakes import JOB, FakeMachine, end, events, fine, keeper_of, pair, start
from machine_fakes import fake_spec
from processes import wait_gone

from dunelab.deadline import Deadline
from dunelab.errors import GuestDied, InfrastructureError
from dunelab.fidelity.model import WHOLE, End, How
from dunelab.fidelity.runner import PROOF, Plan, Watcher, run_all, run_unit
from dunelab.fidelity.state import State
from dunelab.fidelity.suites import guest_file
from dunelab.machine.machine import Machine
from dunelab.machine.watch import CommandTimeout
from dunelab.spec import CommandResult


def test_a_unit_runs_by_dune_run_with_proof() -> None:
    machine = FakeMachine(fine)
    run, log = run_unit(keeper_of(machine), JOB, How.DUNE, Watcher())
    assert "dune-run --verify python3" in machine.commands[0]
    assert run.end_of("a").end is End.OK
    assert PROOF in log


def test_a_run_without_proof_is_no_run() -> None:
    machine = FakeMachine(lambda text: CommandResult(text, 0, "", "log", 1.0))
    with pytest.raises(InfrastructureError, match="did not say that it is in Dune mode"):
        run_unit(keeper_of(machine), JOB, How.DUNE, Watcher())


def test_a_dead_guest_is_an_end_and_is_replaced() -> None:
    def die(text: str) -> CommandResult:
        raise GuestDied("the guest died: Oops")

    first, second = FakeMachine(die), FakeMachine(fine)
    keeper = keeper_of(first, second)
    run, _log = run_unit(keeper, JOB, How.NATIVE, Watcher())
    assert run.end_of(WHOLE).end is End.GUEST_DIED
    assert "Oops" in run.end_of(WHOLE).why
    assert first.killed
    run, _log = run_unit(keeper, JOB, How.NATIVE, Watcher())
    assert run.end_of("a").end is End.OK


def test_a_unit_that_overruns_on_a_living_guest_hung() -> None:
    machine = FakeMachine(fine)

    def overrun(text: str, deadline: Deadline, **options: Any) -> CommandResult:
        if "unit.sh" not in text:
            return CommandResult(text, 0, "", "", 0.0)
        options["sink"]("stdout", events(start("a"), end("a", "ok"), start("b")))
        raise CommandTimeout("did not end; the guest is alive")

    machine.run = overrun  # type: ignore[method-assign]
    run, _log = run_unit(keeper_of(machine), JOB, How.NATIVE, Watcher())
    assert [(test.name, test.end) for test in run.tests] == [
        ("a", End.OK),
        ("b", End.HUNG),
        (WHOLE, End.HUNG),
    ]


@pytest.mark.parametrize(
    ("native", "dune", "endless"),
    [
        (End.HUNG, End.HUNG, True),
        (End.GUEST_DIED, End.HUNG, True),
        (End.HUNG, End.OK, False),
        (End.CRASHED, End.CRASHED, False),
    ],
)
def test_a_unit_without_end_both_ways_is_named(native: End, dune: End, endless: bool) -> None:
    assert pair({WHOLE: native}, {WHOLE: dune}).endless is endless


def test_units_that_differ_run_again_and_known_ones_do_not(tmp_path: Path) -> None:
    def sometimes(text: str) -> CommandResult:
        done = fine(text)
        bad = events(start("a"), end("a", "failed", "x"))
        return replace(done, stdout=bad) if "dune-run" in text else done

    state = State(tmp_path, fake_spec(tmp_path).image)
    plan = Plan((JOB,), tries=2, workers=1, fresh=False)
    machine = FakeMachine(sometimes)

    @contextlib.contextmanager
    def boot() -> Iterator[Machine]:
        yield cast(Machine, machine)

    ((_job, tries),) = run_all(plan, boot, state, Watcher())
    assert len(tries) == 2
    assert len(machine.commands) == 4
    ((_job, again),) = run_all(plan, boot, state, Watcher())
    assert [p.differing for p in again] == [p.differing for p in tries] == [("a",)] * 2
    assert len(machine.commands) == 4
    other = State(tmp_path, replace(state.image, digest="other"))
    list(run_all(plan, boot, other, Watcher()))
    assert [("dune-run" in text) for text in machine.commands[4:]] == [True, True]


def test_a_broken_bench_ends_the_run(tmp_path: Path) -> None:
    @contextlib.contextmanager
    def boot() -> Iterator[Machine]:
        raise InfrastructureError("no guest")
        yield

    plan = Plan((JOB,), tries=1, workers=1, fresh=False)
    state = State(tmp_path, fake_spec(tmp_path).image)
    with pytest.raises(InfrastructureError, match="no guest"):
        list(run_all(plan, boot, state, Watcher()))


def test_the_units_script_streams_kills_and_passes_the_status_on(tmp_path: Path) -> None:
    """With this machine's own tools: what a unit leaves behind is killed."""
    folder = tmp_path / "unit"
    text = 'sleep 1000 & echo $! >../../left; echo event >>"$DUNELAB_EVENTS"; echo said; exit 7'
    done = subprocess.run(
        ["sh", guest_file("unit.sh"), "20", str(folder), "sh", "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "event\n", "said\n")
    left = (tmp_path / "left").read_text().strip()
    assert wait_gone(int(left), seconds=10)
    assert not folder.exists()


def test_the_units_script_ends_what_hangs(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", guest_file("unit.sh"), "1", str(tmp_path / "unit"), "sleep", "100"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 137
