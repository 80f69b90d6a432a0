# SPDX-License-Identifier: MIT
"""The fixtures that tests take from the plugin."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dunelab.pytest_support import runner
from dunelab.pytest_support.header import Program
from dunelab.pytest_support.plan import Plan
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.recorder import Record
from dunelab.pytest_support.worker import EXPECTED, RECORD, Worker, variant_of
from dunelab.spec import Cell

RunProgram = Callable[[], runner.ProgramRun]


class Fixtures:
    """The fixtures tests use.  ``cell`` itself is a parameter."""

    def __init__(self, worker: Worker, plan: Plan) -> None:
        self._worker = worker
        self._plan = plan

    @pytest.fixture
    def guest_context(self, request: pytest.FixtureRequest, cell: Cell) -> Guest:
        """The running guest of this test's cell with all that is known of it."""
        return self._worker.start_guest(request.node, cell, variant_of(request.node))

    @pytest.fixture
    def guest(self, guest_context: Guest) -> Any:
        """The machine of this test's cell, with dune.ko loaded."""
        return guest_context.machine

    @pytest.fixture
    def run_program(
        self, request: pytest.FixtureRequest, guest_context: Guest, program: Program
    ) -> RunProgram:
        """Run this test's guest program and judge it."""

        def run() -> runner.ProgramRun:
            __tracebackhide__ = True
            record: Record = request.node.stash[RECORD]
            lab = self._plan.lab
            record.logs["command.txt"] = runner.command_line(program) + "\n"
            done = runner.run_program(
                guest_context, program, lab.program(program.path), lab.libraries()
            )
            record.logs.update(runner.program_logs(done.results))
            record.metrics, record.facts = done.metrics, done.facts
            record.subtests = done.subtests
            reason = runner.all_skipped(done)
            if reason is not None:
                pytest.skip(reason)
            runner.judge(done, guest_context.cell.engine)
            return done

        return run

    @pytest.fixture
    def expect_splat(self, request: pytest.FixtureRequest) -> Callable[[str], None]:
        """Announce that the kernel will complain; that it does not is a failure."""

        def expect(pattern: str) -> None:
            request.node.stash.setdefault(EXPECTED, []).append(pattern)

        return expect

    @pytest.fixture
    def lab(self) -> Any:
        """Engines, images and machines, for tests that boot their own."""
        return self._plan.lab

    @pytest.fixture
    def resting_guests(self) -> Iterator[None]:
        """Pause this worker's guests while a test boots machines of its own."""
        with self._worker.pool.set_aside():
            yield
