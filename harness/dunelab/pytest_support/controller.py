# SPDX-License-Identifier: MIT
"""The half of the plugin that gathers: one process, one ``results.json``."""

from __future__ import annotations

import datetime
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from dunelab.pytest_support.plan import CELLS_KEY, Plan, encode_cell
from dunelab.pytest_support.recorder import LOGS, plain_id
from dunelab.pytest_support.worker import OUTPUT_KEY, REPORT_KEY, Worker
from dunelab.results import github
from dunelab.results.report import (
    cell_table,
    make_header,
    metric_table,
    render,
    summarise,
    write_results,
)
from dunelab.results.schema import Outcome, Run, TestResult

JUNIT_FILE = "junit.xml"


class Controller:
    """Takes results from reports, whichever process ran the tests."""

    def __init__(self, config: pytest.Config, plan: Plan, worker: Worker) -> None:
        self._config = config
        self._plan = plan
        self._worker = worker
        self._results: list[TestResult] = []
        self._late: list[TestResult] = []
        self._written: Path | None = None
        self._started = time.monotonic()
        self._started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def pytest_report_header(self) -> list[str]:
        """Name what was asked for; the rest is in the summary."""
        if not self._plan.explicit:
            return []
        return [f"dunelab: cells {', '.join(str(cell) for cell in self._plan.cells)}"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Clear the log folders of the run before."""
        if self._plan.writes_results:
            shutil.rmtree(self._plan.results / LOGS, ignore_errors=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: every worker gets the same cells."""
        if self._plan.explicit:
            node.workerinput[CELLS_KEY] = [encode_cell(cell) for cell in self._plan.cells]

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """xdist: what a worker's guests said at the very end."""
        for raw in getattr(node, "workeroutput", {}).get(OUTPUT_KEY, []):
            self._take(TestResult.from_json(raw))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every finished test carries its result; a crashed worker's does not."""
        for raw in report.__dict__.get(REPORT_KEY, []):
            self._take(TestResult.from_json(raw))
        if report.when not in ("setup", "call", "teardown") and report.failed:
            self._take(
                TestResult(
                    test=plain_id(report.nodeid),
                    outcome=Outcome.INFRASTRUCTURE,
                    seconds=report.duration,
                    message=f"infrastructure: the test worker crashed: {report.longrepr}",
                )
            )

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """A dead guest gets a letter of its own among the failures."""
        if report.__dict__.get("dunelab_died"):
            return "failed", "D", "GUEST DIED"
        return None

    def _take(self, result: TestResult) -> None:
        self._results.append(result)
        if result.test.startswith("after "):
            self._late.append(result)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the results; late splats fail the run as a whole."""
        for result in self._worker.take_late():
            self._take(result)
        if self._late and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._plan.writes_results and self._results:
            header = make_header(
                self._started_at,
                time.monotonic() - self._started,
                self._config.invocation_params.args,
                self._config.rootpath,
            )
            self._written = write_results(Run(header, tuple(self._results)), self._plan.results)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tables at the end, and where the evidence is."""
        on_guests = [result for result in self._results if result.ran_on is not None]
        for result in self._late:
            terminalreporter.section(f"{result.test} ({result.outcome})", sep="_", red=True)
            terminalreporter.write_line(result.message)
        again = [result for result in self._results if result.again]
        if again:
            terminalreporter.section("started a second time", sep="_")
        for result in again:
            terminalreporter.write_line(f"{result.test}: {result.again} ({result.outcome})")
        if on_guests:
            width = max(120, terminalreporter._tw.fullwidth)
            tables = (cell_table(summarise(self._results)), metric_table(on_guests))
            terminalreporter.section("dunelab")
            terminalreporter.write(render(*tables, width=width))
        if self._plan.writes_results and self._results:
            terminalreporter.write_line(f"results: {self._plan.results}")
        if github.wanted():
            found = github.of_results(self._results, self._config.rootpath)
            terminalreporter.write("\n" + github.lines(found))
