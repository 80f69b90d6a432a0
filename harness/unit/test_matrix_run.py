# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import socket
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from dunelab.deadline import Deadline
from dunelab.images.kernels import KernelEntry
from dunelab.matrix import cells
from dunelab.matrix.cells import LOG, CellRunner, Suite, count_tests, judge, pytest_argv
from dunelab.matrix.model import (
    Break,
    BuildReport,
    CellReport,
    MatrixCell,
    MatrixReport,
    Verdict,
    exit_status,
)
from dunelab.matrix.plan import Planned
from dunelab.matrix.record import Record, merge, read_report
from dunelab.matrix.report import html_page, junit, markdown, write_all
from dunelab.results.schema import Outcome, TestResult
from dunelab.spec import EngineName, Vendor

CELL = MatrixCell("k7", EngineName.BOCHS, Vendor.INTEL, "tigerlake")
PLAIN = MatrixCell("k5", EngineName.TCG, Vendor.AMD)
SUITE = Suite("run", ("a/test_x.py::test_y",), "enter or bench")


def result(outcome: Outcome, message: str = "", name: str = "a/t.py::test_y[c-fork]") -> TestResult:
    return TestResult(name, outcome, 1.0, message)


# -- cells -------------------------------------------------------------------------


def test_the_process_of_a_cell() -> None:
    words = pytest_argv(CELL, SUITE, Path("/r"), Path("/out"))
    assert words[3] == "/r/a/test_x.py::test_y"
    assert words[4] == "/r/harness/acceptance/test_ibt.py"
    text = " ".join(words)
    assert "-k enter or bench or test_ibt" in text
    assert "--engine bochs --vendor intel --kernel k7 --cpu-model tigerlake" in text
    assert text.endswith("--guests 1 --results /out")
    plain = pytest_argv(PLAIN, Suite("all", ("harness/acceptance",)), Path("/r"), Path("/o"))
    assert "-k" not in plain
    assert "--cpu-model" not in plain
    assert "test_ibt" not in " ".join(plain)


def test_a_cell_passes_when_all_did(tmp_path: Path) -> None:
    report = judge(CELL, [result(Outcome.PASSED), result(Outcome.SKIPPED)], 0, tmp_path)
    assert (report.verdict, report.passed, report.skipped) == (Verdict.PASS, 1, 1)
    assert report.cell == "bochs-intel-k7-tigerlake"


def test_a_cell_says_how_many_needed_a_second_guest(tmp_path: Path) -> None:
    first, second = result(Outcome.PASSED), result(Outcome.PASSED)
    report = judge(CELL, [replace(first, again="stale"), second], 0, tmp_path)
    assert report.verdict is Verdict.PASS
    assert report.cause.startswith("1 started a second time")


def test_a_dead_guest_counts_more_than_a_failure(tmp_path: Path) -> None:
    results = [
        result(Outcome.FAILED, "assert 1 == 2"),
        result(Outcome.GUEST_DIED, "guest died: BUG: oh\nmore", "x/t.py::test_z[c]"),
        result(Outcome.PASSED),
    ]
    report = judge(CELL, results, 1, tmp_path)
    assert (report.verdict, report.cause) == (Verdict.DEAD, "test_z[c]: guest died: BUG: oh")
    assert report.failed == 2
    report = judge(CELL, results[:1], 1, tmp_path)
    assert (report.verdict, report.cause) == (Verdict.FAIL, "test_y[c-fork]: assert 1 == 2")


@pytest.mark.parametrize(
    ("results", "status"),
    [([], 0), ([], 4), ([result(Outcome.SKIPPED)], 0), ([result(Outcome.PASSED)], 3)],
)
def test_nothing_that_passed_is_no_pass(
    tmp_path: Path, results: list[TestResult], status: int
) -> None:
    assert judge(CELL, results, status, tmp_path).verdict is Verdict.INFRASTRUCTURE


def test_tests_are_counted_in_a_log() -> None:
    log = "t.py::a PASSED [ 1%]\nt.py::b FAILED [ 2%]\nt.py::c SKIPPED (x) [ 3%]\nt.py::d \n"
    assert count_tests(log) == 3


def planned(cell: MatrixCell) -> Planned:
    return Planned(cell, KernelEntry(cell.kernel, "s", "amd64", "5.10", None))


def test_cells_run_side_by_side_and_say_how_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        cells, "pytest_argv", lambda *_words: [sys.executable, "-c", "print('hello'); exit(3)"]
    )
    said: list[str] = []
    runner = CellRunner(tmp_path, SUITE, 2, said.append)
    work = [(planned(PLAIN), tmp_path / "p"), (planned(CELL), tmp_path / "c")]
    ended = dict(runner.run(work, lambda item: item.cell is PLAIN))
    assert ended[work[1][0]] is None
    report = ended[work[0][0]]
    assert report is not None
    assert report.verdict is Verdict.INFRASTRUCTURE
    assert report.host == socket.gethostname()
    assert "pytest ended with 3" in report.cause
    assert (tmp_path / "p" / LOG).read_text() == "hello\n"
    assert said[0] == "tcg-amd-k5 starts, 1 cells wait"


def test_what_still_runs_is_ended_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever interrupts a run leaves no pytest, and so no guest, behind."""
    script = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(int(sys.argv[1]))"
    monkeypatch.setattr(
        cells,
        "pytest_argv",
        lambda cell, *_: [sys.executable, "-c", script, "0" if cell is PLAIN else "99"],
    )
    runner = CellRunner(tmp_path, SUITE, 2, lambda text: None)
    work = [(planned(PLAIN), tmp_path / "p"), (planned(CELL), tmp_path / "c")]
    running = runner.run(work, lambda item: True)
    next(running)
    until = Deadline.after(20, "the second process")
    while not (tmp_path / "c" / LOG).read_text():
        until.check()
    pid = int((tmp_path / "c" / LOG).read_text())
    assert Path(f"/proc/{pid}").exists()
    running.close()
    assert not Path(f"/proc/{pid}").exists()


# -- going on ----------------------------------------------------------------------

REPORT = CellReport("k7", "intel", Verdict.PASS, cell=str(CELL), passed=3)


def test_an_interrupted_run_goes_on_with_what_is_the_same(tmp_path: Path) -> None:
    record = Record(tmp_path)
    assert not record.begin(afresh=False)
    record.keep(CELL, "key", REPORT)
    again = Record(tmp_path)
    assert again.begin(afresh=False)
    assert again.done(CELL, "key") == replace(REPORT, from_before=True)
    assert again.done(CELL, "another key") is None
    assert again.done(PLAIN, "key") is None
    again.end()
    assert not Record(tmp_path).begin(afresh=False)
    assert Record(tmp_path).done(CELL, "key") is None


def test_a_run_may_begin_afresh(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.begin(afresh=False)
    record.keep(CELL, "key", REPORT)
    assert not record.begin(afresh=True)
    assert record.done(CELL, "key") is None


def test_what_the_bench_failed_on_is_run_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.begin(afresh=False)
    record.keep(CELL, "key", replace(REPORT, verdict=Verdict.INFRASTRUCTURE))
    assert record.done(CELL, "key") is None


# -- the table ---------------------------------------------------------------------

BROKEN = BuildReport(
    "k5",
    "5.10-amd64",
    2.0,
    (Break("symbol", "vma_lookup", "mmu.c:311", "implicit"),),
    failure="status 2",
)
WHOLE = MatrixReport(
    suite="run",
    started="2026-01-01T00:00:00+00:00",
    seconds=61.0,
    commit="abc",
    builds=(BROKEN, BuildReport("k7", "7.3", 3.0), BuildReport("k9", "", 0.1, missing="no index")),
    cells=(
        CellReport("k5", "amd", Verdict.FAIL, BROKEN.cause, "tcg-amd-k5"),
        replace(REPORT, release="7.3"),
        CellReport("k7", "amd", Verdict.DEAD, "t: BUG: <a> | b", "tcg-amd-k7", failed=1),
        CellReport("6.16", "amd", Verdict.NOT_RUN, "no headers"),
    ),
)


def test_a_build_says_its_cause() -> None:
    assert BROKEN.cause == "does not build: symbol vma_lookup at mmu.c:311"
    assert WHOLE.builds[1].ok
    assert WHOLE.builds[2].cause == "no index"


def test_documents(tmp_path: Path) -> None:
    paths = write_all(WHOLE, tmp_path)
    assert {path.name for path in paths} == {
        "matrix.json",
        "matrix.md",
        "matrix.html",
        "junit.xml",
    }
    assert read_report(tmp_path) == WHOLE
    assert json.loads((tmp_path / "matrix.json").read_text())["schema"] == "dunelab-matrix-1"


def test_markdown() -> None:
    text = markdown(WHOLE)
    assert "| symbol | vma_lookup | mmu.c:311 | k5 |  |" in text
    assert "| 6.16 |  | amd |  | not run |  |  |  | no headers |" in text
    assert "BUG: <a> \\| b" in text
    assert "1 of 3 kernels built" in text


def test_html_escapes() -> None:
    page = html_page(WHOLE)
    assert "BUG: &lt;a&gt; | b" in page
    assert '<tr class="dead-guest">' in page


def test_junit_has_a_case_per_build_and_cell() -> None:
    root = ElementTree.fromstring(junit(WHOLE))
    suites = {suite.get("name"): suite for suite in root}
    assert (suites["builds"].get("tests"), suites["builds"].get("failures")) == ("3", "1")
    assert suites["builds"].get("skipped") == "1"
    assert (suites["cells"].get("tests"), suites["cells"].get("failures")) == ("4", "2")
    assert suites["cells"].get("skipped") == "1"


def test_exit_status() -> None:
    assert exit_status(WHOLE) == 1
    passed = replace(WHOLE, builds=(), cells=(REPORT, WHOLE.cells[3]))
    assert exit_status(passed) == 0
    infra = replace(REPORT, verdict=Verdict.INFRASTRUCTURE)
    assert exit_status(replace(passed, cells=(REPORT, infra))) == 2
    assert exit_status(replace(passed, builds=(BROKEN,))) == 1
    assert exit_status(replace(passed, builds=WHOLE.builds[1:2])) == 0
    assert exit_status(replace(passed, builds=WHOLE.builds[2:])) == 2


def test_runs_of_several_machines_make_one_table() -> None:
    elsewhere = replace(
        WHOLE, builds=(), cells=(replace(REPORT, verdict=Verdict.NOT_RUN, passed=0),), seconds=99.0
    )
    both = merge([elsewhere, WHOLE])
    assert both.seconds == 99.0
    assert [cell.verdict for cell in both.cells if cell.cell == str(CELL)] == [Verdict.PASS]
    assert len(both.cells) == 4


def test_only_where_several_machines_ran_cells_is_it_said_which() -> None:
    first = replace(WHOLE, suite="all", cells=(), builds=(BROKEN,))
    cells = (replace(REPORT, host="far-a"), replace(WHOLE.cells[2], host="far-b"), WHOLE.cells[3])
    both = merge([first, replace(WHOLE, cells=cells)])
    # What only built says nothing of a suite.
    assert both.suite == "run"
    assert merge([first]).suite == "all"
    text = markdown(both)
    assert "| cause | host |" in text
    assert "| t: BUG: <a> \\| b | far-b |" in text
    assert "<td>far-a" in html_page(both)
    one = replace(WHOLE, cells=tuple(replace(cell, host="far-a") for cell in WHOLE.cells))
    assert "far-a" not in markdown(one)
    assert "host" not in markdown(WHOLE)
