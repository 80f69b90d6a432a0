# SPDX-License-Identifier: MIT
"""The half of the plugin that runs tests: in an xdist worker, or without xdist."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dunelab.errors import DunelabError, GuestDied
from dunelab.pytest_support import recorder
from dunelab.pytest_support.header import (
    SLOW_SECONDS,
    SMP,
    Program,
    ProgramKind,
    Variant,
    on_the_other_number_of_cpus,
    variant_from,
)
from dunelab.pytest_support.place import place, program_of, statement
from dunelab.pytest_support.plan import Plan
from dunelab.pytest_support.pool import Guest, GuestPool
from dunelab.pytest_support.recorder import Record, folder_name, plain_id, write_logs
from dunelab.pytest_support.schedule import group_of, scope_of, urgency
from dunelab.pytest_support.slots import Slots, default_slots
from dunelab.pytest_support.watch import ConsoleWatch, Late, describe, judge
from dunelab.results.allowlist import read_allowlist
from dunelab.results.schema import Outcome, TestResult
from dunelab.spec import Cell, EngineName, ImageKind

RECORD = pytest.StashKey[Record]()
GUEST = pytest.StashKey[Guest]()
EXPECTED = pytest.StashKey[list[str]]()

REPORT_KEY = "dunelab_results"
OUTPUT_KEY = "dunelab_late"
HOLD_POLL_SECONDS = 0.5


def cell_of(item: pytest.Item) -> Cell | None:
    """The cell a test is parametrised with."""
    callspec = getattr(item, "callspec", None)
    cell = callspec.params.get("cell") if callspec is not None else None
    return cell if isinstance(cell, Cell) else None


def variant_of(item: pytest.Item) -> Variant:
    """The guest a test wants: its ``guest_variant`` mark's, its program's, or the usual.

    ``--image full`` gives the full guest to those as well that would do without, and
    ``--cpu-model`` a CPU to those that name none.
    """
    cell, program = cell_of(item), program_of(item)
    mark = item.get_closest_marker("guest_variant")
    if mark is not None:
        variant = variant_from(mark.kwargs)
    elif cell is not None and program is not None:
        variant = program.variant(cell.engine)
    else:
        variant = SMP
    if ImageKind(item.config.getoption("dunelab_image")) is ImageKind.FULL:
        variant = replace(variant, image=ImageKind.FULL)
    return replace(
        variant, cpu_model=variant.cpu_model or item.config.getoption("dunelab_cpu_model")
    )


def slow_seconds(item: pytest.Item) -> int:
    """How long a slow test is said to take on its engine; 0 for the others.

    A test and its parameter may each say so: the longer time is meant.
    """
    cell = cell_of(item)

    def said(mark: pytest.Mark) -> int:
        if mark.kwargs:
            return int(mark.kwargs.get(str(cell.engine), 0)) if cell is not None else 0
        return int(mark.args[0]) if mark.args else SLOW_SECONDS

    return max((said(mark) for mark in item.iter_markers("slow")), default=0)


Marks = tuple[pytest.MarkDecorator, ...]


def _late_marks(program: Program, costs: bool) -> Marks:
    """What keeps a program for --thorough, or for --slow where it is slow.

    The gate wants costs all the same.
    """
    marks: Marks = (pytest.mark.thorough,) if program.options.thorough else ()
    if program.options.slow:
        marks = (*marks, pytest.mark.slow(program.options.slow))
    if program.options.slow_bochs and not costs:
        marks = (*marks, pytest.mark.slow(bochs=program.options.slow_bochs))
    return marks


class Worker:
    """Collects, runs and records tests that use guests."""

    def __init__(self, config: pytest.Config, plan: Plan) -> None:
        self._config = config
        self._plan = plan
        self._pool: GuestPool | None = None
        self._watch = ConsoleWatch(
            read_allowlist(config.rootpath / "harness" / "acceptance" / "splat-allowlist.toml")
        )
        self._late: list[TestResult] = []

    # -- collection --------------------------------------------------------------

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Give each test that needs one a cell, and program tests their programs."""
        mark = metafunc.definition.get_closest_marker("guest_programs")
        if mark is not None:
            kind = ProgramKind(mark.args[0])
            programs = self._plan.programs(kind)
            if mark.kwargs.get("other_cpus"):
                programs = tuple(filter(None, map(on_the_other_number_of_cpus, programs)))
            self._generate_programs(metafunc, programs, str(mark.kwargs.get("group", kind)))
        elif "cell" in metafunc.fixturenames:
            group = metafunc.definition.get_closest_marker("guest_group")
            name = str(group.args[0]) if group is not None else str(ProgramKind.BEHAVIOUR)
            points = [
                pytest.param(cell, id=group_of(cell, name), marks=skip)
                for cell, skip in self._cells(metafunc)
            ]
            metafunc.parametrize("cell", points)

    def _cells(self, metafunc: pytest.Metafunc) -> tuple[tuple[Cell, Marks], ...]:
        """The cells of this run for a test; with a skip those it has a reason not to run in."""
        engines = metafunc.definition.get_closest_marker("only_engines")
        vendors = metafunc.definition.get_closest_marker("only_vendors")
        reason = engines and engines.kwargs.get("reason")
        found: list[tuple[Cell, Marks]] = []
        for cell in self._plan.cells:
            if vendors is not None and str(cell.vendor) not in vendors.args:
                continue
            if engines is None or str(cell.engine) in engines.args:
                found.append((cell, ()))
            elif reason:
                elsewhere = f"{reason}; engines for it: {', '.join(engines.args)}"
                found.append((cell, (pytest.mark.skip(reason=elsewhere),)))
        return tuple(found)

    def _generate_programs(
        self, metafunc: pytest.Metafunc, programs: tuple[Program, ...], group: str
    ) -> None:
        points = [
            pytest.param(
                cell,
                program,
                id=f"{group_of(cell, group)}-{program.name}",
                marks=(*_late_marks(program, self._plan.costs), *skip),
            )
            for cell, skip in self._cells(metafunc)
            for program in (replace(program, once=not self._plan.costs) for program in programs)
            if program.options.vendor in (None, cell.vendor)
        ]
        metafunc.parametrize(("cell", "program"), points)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Leave out slow tests, or the others, and those of another CPU; bring groups together.

        With workers the longest groups come first; one process begins with what
        needs no guest and is soon done.
        """
        unwanted = [item for item in items if not self._wanted(item)]
        if unwanted:
            unwelcome = set(unwanted)
            items[:] = [item for item in items if item not in unwelcome]
            config.hook.pytest_deselected(items=unwanted)
        parallel = hasattr(config, "workerinput")
        limited = self._plan.slow_minutes is not None
        largest = parallel and not limited
        sizes = Counter(scope_of(item.nodeid) for item in items)
        groups: dict[str, int] = {}
        guests: dict[tuple[str, Variant], int] = {}
        order: dict[pytest.Item, tuple[int, ...]] = {}
        for item in items:
            cell = cell_of(item)
            if cell is None:
                order[item] = (urgency(None) if parallel else -len(EngineName),)
                continue
            group, variant = scope_of(item.nodeid), variant_of(item)
            order[item] = (
                urgency(cell, limited=limited) if parallel else 0,
                -sizes[group] if largest else 0,
                groups.setdefault(group, len(groups)),
                # A guest that others come between may have to be started again.
                guests.setdefault((group, variant), len(guests)),
            )
        items.sort(key=order.__getitem__)

    def _wanted(self, item: pytest.Item) -> bool:
        models = item.get_closest_marker("only_cpu_models")
        if models is not None and self._plan.cpu_model not in models.args:
            return False
        if item.get_closest_marker("thorough") is not None and not self._plan.thorough:
            return False
        return self._plan.wants(slow_seconds(item))

    # -- guests ------------------------------------------------------------------

    @property
    def pool(self) -> GuestPool:
        if self._pool is None:
            slots = Slots(self._shared_folder() / "slots", self._plan.guests or default_slots())
            self._pool = GuestPool(
                self._plan.lab,
                slots,
                fresh=self._plan.fresh,
                farewell=self._farewell,
                progress=self._say,
            )
        return self._pool

    def _shared_folder(self) -> Path:
        """A folder all workers of this run see, and no other run."""
        factory: pytest.TempPathFactory = self._config._tmp_path_factory  # type: ignore[attr-defined]
        base = factory.getbasetemp()
        return base.parent if hasattr(self._config, "workerinput") else base

    def start_guest(self, item: pytest.Item, cell: Cell, variant: Variant) -> Guest:
        """The guest of a test, with the begin mark on its console."""
        guest = self.pool.guest(cell, variant)
        record = item.stash[RECORD]
        record.ran_on = guest.ran_on
        if guest.last_test is None:
            record.again = record.again or guest.booted.again
        item.stash[GUEST] = guest
        late = self._watch.begin(guest, record.test)
        if late is not None:
            self._note_late(late, guest)
        return guest

    def _farewell(self, guest: Guest) -> None:
        complaints = guest.booted.last_check()
        late = self._watch.farewell(guest)
        if late is not None:
            self._note_late(late, guest)
        if complaints:
            self._late.append(
                TestResult(
                    test=f"after {guest.last_test or 'boot'}",
                    outcome=Outcome.FAILED,
                    seconds=0.0,
                    message=complaints,
                    ran_on=guest.ran_on,
                )
            )

    def _note_late(self, late: Late, guest: Guest) -> None:
        fatal = any(splat.fatal for splat in late.splats)
        self._late.append(
            TestResult(
                test=f"after {late.test}",
                outcome=Outcome.GUEST_DIED if fatal else Outcome.FAILED,
                seconds=0.0,
                message=describe(late.splats, guest.booted.builds),
                ran_on=guest.ran_on,
            )
        )

    def _say(self, text: str) -> None:
        """Tell the terminal what is waited for; pytest captures everything else."""
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        worker = os.environ.get("PYTEST_XDIST_WORKER", "dunelab")
        aside = capture.global_and_fixture_disabled() if capture else contextlib.nullcontext()
        with aside:
            sys.stderr.write(f"\n[{worker}] {text}\n")
            sys.stderr.flush()

    # -- running -----------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Open a record before the test; rest the guest if the next one needs another."""
        item.stash[RECORD] = Record(test=plain_id(item.nodeid))
        try:
            return (yield)
        finally:
            if self._pool is not None and not _same_guest(item, nextitem):
                self._pool.rest()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A slow test that would not end within the time given is left out, and says so."""
        seconds, left = slow_seconds(item), self._plan.slow_seconds_left()
        if seconds and left is not None and left < seconds:
            pytest.skip(
                f"left out: slow tests have {self._plan.slow_minutes:g} minutes (--slow-minutes), "
                f"of which {max(left, 0) / 60:.0f} were left and it takes {seconds / 60:.0f}"
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Around the test's body: read the console and weigh what it says."""
        error: BaseException | None = None
        value: object = None
        try:
            value = yield
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:  # noqa: BLE001 - raised again below, with notes
            error = raised
        guest = item.stash.get(GUEST, None)
        if guest is not None:
            self._after_body(item, guest, error)
        if error is not None:
            raise error
        return value

    def _after_body(self, item: pytest.Item, guest: Guest, error: BaseException | None) -> None:
        __tracebackhide__ = True
        record = item.stash[RECORD]
        start = guest.scanned
        splats, late = self._watch.end(guest, record.test)
        if late is not None:
            self._note_late(late, guest)
        if isinstance(error, GuestDied):
            guest.damaged = guest.damaged or error.what
        record.logs["console.txt"] = guest.machine.console.text()[start:]
        expected = item.stash.get(EXPECTED, [])
        if error is None:
            judge(splats, expected, guest.booted.builds)
            if guest.damaged is not None and not splats and not expected and late is None:
                raise GuestDied(f"{record.test} passed, then: {guest.damaged}")
        elif splats:
            error.add_note(
                "kernel splat during the test:\n" + describe(splats, guest.booted.builds)
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn the families of errors into distinct reports."""
        report = yield
        record = item.stash.get(RECORD, None)
        if record is None:
            return report
        error = call.excinfo.value if call.excinfo is not None else None
        if report.skipped:
            record.phase(Outcome.SKIPPED, call.duration, _skip_text(report))
        elif error is None or report.passed:
            record.phase(Outcome.PASSED, call.duration)
        else:
            outcome = recorder.outcome_of(error)
            headline = recorder.headline(error) or type(error).__name__
            record.phase(outcome, call.duration, headline, place(item, call, headline))
            if isinstance(error, DunelabError):
                report.longrepr = headline + statement(item, call)
            if outcome is Outcome.INFRASTRUCTURE and report.when == "call":
                # pytest and JUnit call a failed set-up an error, not a failure.
                report.when = "setup"
            if outcome is Outcome.GUEST_DIED:
                report.__dict__["dunelab_died"] = True
        if call.when == "teardown":
            self._finish(item, record, report)
        return report

    def _finish(self, item: pytest.Item, record: Record, report: pytest.TestReport) -> None:
        guest = item.stash.get(GUEST, None)
        if guest is not None and self._plan.writes_results:
            record.log_folder = self._plan.results / recorder.LOGS / folder_name(item.nodeid)
            write_logs(record.log_folder, {**record.logs, **_engine_logs(guest)})
        report.user_properties.extend(record.properties())
        late, self._late = self._late, []
        results = [record.result(self._plan.results), *late]
        report.__dict__[REPORT_KEY] = [result.to_json() for result in results]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End all guests, or hand them over; send on what they said last."""
        if self._pool is None:
            return
        if self._plan.keep_guest:
            self._hold_guests()
        self._pool.close()
        output = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[OUTPUT_KEY] = [result.to_json() for result in self._late]
            self._late = []

    def _hold_guests(self) -> None:
        """Let a person look at the guests; the emulators end with this process."""
        held = [guest for guest in self.pool.held() if guest.machine.alive]
        for guest in held:
            guest.machine.resume()
            self._say(f"kept {guest.cell} ({guest.variant}):\n  {guest.booted.ssh_command}")
        if not held:
            return
        self._say("Ctrl-C ends them")
        try:
            while any(guest.machine.alive for guest in held):
                time.sleep(HOLD_POLL_SECONDS)
        except KeyboardInterrupt:
            self._say("ending the guests")

    def open_again(self, item: pytest.Item, why: str, reports: Sequence[pytest.TestReport]) -> None:
        """Make a test's record a new one; of its first try keep the console and late splats."""
        first = item.stash[RECORD]
        logs = {"console-first-try.txt": first.logs.get("console.txt", "")}
        item.stash[RECORD] = Record(test=first.test, again=why, logs=logs)
        if GUEST in item.stash:
            del item.stash[GUEST]
        item.stash[EXPECTED] = []
        for report in reports:
            for raw in report.__dict__.get(REPORT_KEY, [])[1:]:
                self._late.append(TestResult.from_json(raw))
        self._say(f"{first.test}: {why} (docs/engines.md); it is run once more")

    def take_late(self) -> list[TestResult]:
        """For a controller in the same process: what no report carried."""
        late, self._late = self._late, []
        return late


def _same_guest(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    if nextitem is None or cell_of(item) is None:
        return False
    return (cell_of(item), variant_of(item)) == (cell_of(nextitem), variant_of(nextitem))


def _skip_text(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr or "skipped")


def _engine_logs(guest: Guest) -> dict[str, str]:
    logs = {"engine-command.txt": guest.booted.command_line + "\n"}
    if guest.booted.engine_log is not None and guest.booted.engine_log.exists():
        text = guest.booted.engine_log.read_text("utf-8", "replace")
        logs["engine-tail.txt"] = "\n".join(text.splitlines()[-100:])
    return logs
