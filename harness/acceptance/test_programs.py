# SPDX-License-Identifier: MIT
"""The guest programs of tests/: each is one test per cell.

What they prove stands in their own first comment; how they are judged, in
``dunelab.pytest_support.runner``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dunelab.dune.lab import DuneLab
from dunelab.pytest_support import runner
from dunelab.pytest_support.header import Program
from dunelab.pytest_support.pool import Guest


@pytest.mark.guest_programs("behaviour")
def test_behaviour(run_program: Callable[[], runner.ProgramRun]) -> None:
    """What must hold in Dune mode."""
    run_program()


@pytest.mark.slow(20)
@pytest.mark.guest_programs("behaviour", group="other_cpus", other_cpus=True)
def test_behaviour_on_the_other_number_of_cpus(
    run_program: Callable[[], runner.ProgramRun],
) -> None:
    """The same on one CPU where the program asks for two, and on two where it asks for one."""
    run_program()


# The gate runs them all the same.
@pytest.mark.thorough
@pytest.mark.guest_programs("bench")
def test_bench(run_program: Callable[[], runner.ProgramRun]) -> None:
    """What it costs; with --costs in three runs, which agree to 1 % where ticks repeat."""
    run_program()


@pytest.mark.guest_programs("native")
def test_native(run_program: Callable[[], runner.ProgramRun]) -> None:
    """What needs dune.ko but not Dune mode."""
    run_program()


# Without Dune mode a CPU more or less is no difference: one guest serves all.
@pytest.mark.thorough
@pytest.mark.only_engines("tcg")
@pytest.mark.guest_variant
@pytest.mark.guest_programs("behaviour", group="outside")
def test_behaviour_fails_outside_dune_mode(
    guest_context: Guest, program: Program, lab: DuneLab
) -> None:
    """A test that would also pass outside Dune mode is a defect.

    With DUNE_TEST_NATIVE set a program does not enter, and must then fail.
    """
    run = runner.run_program(
        guest_context,
        program,
        lab.program(program.path),
        lab.libraries(),
        env={"DUNE_TEST_NATIVE": "1"},
    )
    with pytest.raises(AssertionError):
        runner.judge(run, guest_context.cell.engine)
