# SPDX-License-Identifier: MIT
"""Running cells: each a pytest process of its own, as many at once as the machine bears."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dunelab.matrix.model import CellReport, MatrixCell, Verdict
from dunelab.matrix.plan import IBT_MODEL, Planned
from dunelab.results.report import RESULTS_FILE, read_results
from dunelab.results.schema import Outcome, TestResult

LOG = "pytest.log"
CELL_SECONDS = 3 * 3600.0
"""No cell takes so long; each test has deadlines of its own."""

_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 60.0
_STOP_SECONDS = 30.0
_CAUSE_LENGTH = 200

_BAD = {
    Outcome.GUEST_DIED: Verdict.DEAD,
    Outcome.FAILED: Verdict.FAIL,
    Outcome.INFRASTRUCTURE: Verdict.INFRASTRUCTURE,
}


@dataclass(frozen=True)
class Suite:
    """Which tests make a cell's verdict."""

    name: str
    tests: tuple[str, ...]
    select: str = ""


# What is run in a cell with IBT besides.
IBT_TESTS = ("harness/acceptance/test_ibt.py",)


def pytest_argv(cell: MatrixCell, suite: Suite, root: Path, results: Path) -> list[str]:
    """The process that runs a cell, as one pure function."""
    tests = (*suite.tests, *(IBT_TESTS if cell.cpu_model == IBT_MODEL else ()))
    select = suite.select and f"{suite.select} or test_ibt"
    return [
        *(sys.executable, "-m", "pytest", *(str(root / test) for test in tests)),
        *("-k", select) * bool(select),
        *("--thorough", "-v", "--no-header", "-p", "no:cacheprovider"),
        *(f"--rootdir={root}", "-c", str(root / "pyproject.toml")),
        *("--engine", str(cell.engine), "--vendor", str(cell.vendor), "--kernel", cell.kernel),
        *(("--cpu-model", cell.cpu_model) if cell.cpu_model else ()),
        *("--guests", "1", "--results", str(results)),
    ]


def judge(cell: MatrixCell, results: Sequence[TestResult], status: int, folder: Path) -> CellReport:
    """A cell's row, from its tests' results and pytest's exit status."""
    counts = {outcome: sum(r.outcome is outcome for r in results) for outcome in Outcome}
    release = next((r.ran_on.kernel_release for r in results if r.ran_on), "")
    again = sum(bool(result.again) for result in results)
    report = CellReport(
        kernel=cell.kernel,
        vendor=str(cell.vendor),
        verdict=Verdict.PASS,
        cell=str(cell),
        release=release,
        passed=counts[Outcome.PASSED],
        failed=sum(counts[outcome] for outcome in _BAD),
        skipped=counts[Outcome.SKIPPED],
        evidence=str(folder),
        cause=f"{again} started a second time: stale code of QEMU's" if again else "",
    )
    for outcome, verdict in _BAD.items():
        bad = next((r for r in results if r.outcome is outcome), None)
        if bad is not None:
            return replace(report, verdict=verdict, cause=cause_of(bad))
    if status != 0 or not report.passed:
        why = f"pytest ended with {status}, and {report.passed} tests passed: see {LOG}"
        return replace(report, verdict=Verdict.INFRASTRUCTURE, cause=why)
    return report


def cause_of(result: TestResult) -> str:
    """The test's short name, and the first line of what went wrong."""
    lines = [line.strip() for line in result.message.splitlines() if line.strip()]
    short = result.test.rpartition("/")[2].rpartition("::")[2]
    return f"{short}: {lines[0] if lines else result.outcome}"[:_CAUSE_LENGTH]


@dataclass
class _Running:
    planned: Planned
    process: subprocess.Popen[bytes]
    folder: Path
    started: float
    said: float


class CellRunner:
    """Runs cells side by side; tells what it is at."""

    def __init__(
        self, root: Path, suite: Suite, jobs: int, progress: Callable[[str], None]
    ) -> None:
        self._root = root
        self._suite = suite
        self._jobs = jobs
        self._progress = progress

    def run(
        self, cells: Sequence[tuple[Planned, Path]], may_start: Callable[[Planned], bool]
    ) -> Generator[tuple[Planned, CellReport | None], None, None]:
        """Each cell with its report as it ends; None where ``may_start`` said no."""
        waiting = list(cells)
        running: list[_Running] = []
        try:
            while waiting or running:
                while waiting and len(running) < self._jobs:
                    planned, folder = waiting.pop(0)
                    if may_start(planned):
                        running.append(self._start(planned, folder, len(waiting)))
                    else:
                        yield planned, None
                for job in list(running):
                    report = self._look(job)
                    if report is not None:
                        running.remove(job)
                        yield job.planned, report
                if running:
                    time.sleep(_POLL_SECONDS)
        finally:
            _stop([job.process for job in running])

    def _start(self, planned: Planned, folder: Path, behind: int) -> _Running:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS_FILE).unlink(missing_ok=True)
        # In a session of its own it hears no Ctrl-C: it is told, here or by the kernel.
        # A shell's background job has SIGINT ignored, and hands that down.
        argv = ["env", "--default-signal=INT", "setpriv", "--pdeathsig", "INT"]
        argv += pytest_argv(planned.cell, self._suite, self._root, folder)
        with (folder / LOG).open("wb") as log:
            process = subprocess.Popen(
                argv,
                cwd=self._root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._progress(f"{planned.cell} starts, {behind} cells wait")
        now = time.monotonic()
        return _Running(planned, process, folder, now, now)

    def _look(self, job: _Running) -> CellReport | None:
        status = job.process.poll()
        now = time.monotonic()
        seconds = now - job.started
        if status is None and seconds < CELL_SECONDS:
            if now - job.said >= _HEARTBEAT_SECONDS:
                job.said = now
                done = count_tests((job.folder / LOG).read_text("utf-8", "replace"))
                self._progress(f"{job.planned.cell}: {done} tests in {seconds:.0f} s")
            return None
        if status is None:
            _stop([job.process])
            status = job.process.wait()
        results: tuple[TestResult, ...] = ()
        with contextlib.suppress(FileNotFoundError):
            results = read_results(job.folder / RESULTS_FILE).results
        report = replace(
            judge(job.planned.cell, results, status, job.folder),
            seconds=round(seconds, 1),
            host=socket.gethostname(),
        )
        said = f"{report.verdict}, {report.passed} passed, {seconds:.0f} s"
        self._progress(f"{job.planned.cell}: {said}{': ' * bool(report.cause)}{report.cause}")
        return report


_ENDED = re.compile(r" (?:PASSED|FAILED|SKIPPED|ERROR|GUEST DIED)\b")


def count_tests(log: str) -> int:
    """How many tests of a verbose pytest log have ended."""
    return len(_ENDED.findall(log))


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let pytest end its guests; what does not is killed with its group."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    until = time.monotonic() + _STOP_SECONDS
    for process in processes:
        try:
            process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
