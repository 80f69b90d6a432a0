# SPDX-License-Identifier: MIT
from __future__ import annotations

import json
import subprocess
from pathlib import Path

import kcidb_io
import pytest

from dunelab.cli import main
from dunelab.errors import InfrastructureError
from dunelab.matrix import kcidb
from dunelab.matrix.model import Break, BuildReport, CellReport, MatrixReport, Verdict
from dunelab.matrix.record import cell_runs
from dunelab.results import kcidb as results_kcidb
from dunelab.results.ktap import Metric, MetricUnit
from dunelab.results.report import write_results
from dunelab.results.schema import Outcome, Run, RunHeader, TestResult, merge_runs
from dunelab.spec import Unit

STARTED = "2026-01-02T03:04:05+00:00"
HEADER = RunHeader("0.1", "cafe", STARTED, 9.0, 2, 4096, "a CPU", ())
NAME = "harness/acceptance/test_programs.py::test_bench[tcg-amd-k7:bench-fork]"
METRICS = merge_runs([[Metric("fork", 3.0, MetricUnit.TICKS)]], Unit.TICKS)
RUN = Run(
    HEADER,
    (
        TestResult(NAME, Outcome.PASSED, 1.0, metrics=METRICS, facts={"cpl": "0"}),
        TestResult(NAME.replace("fork", "mmap"), Outcome.FAILED, 1.0, "not ok\0 x", place="a.c:3"),
        TestResult(NAME.replace("fork", "io"), Outcome.GUEST_DIED, 1.0, "panic" * 9999),
        TestResult(NAME.replace("fork", "vm"), Outcome.INFRASTRUCTURE, 1.0, "no network"),
        TestResult(NAME.replace("fork", "ring"), Outcome.SKIPPED, 0.0, "one CPU"),
    ),
)
REPORT = MatrixReport(
    "run",
    STARTED,
    12.0,
    "0123456789ab",
    (
        BuildReport("k7", "7.3.1-amd64", 4.0),
        BuildReport("k6", "6.1", 4.0, (Break("symbol", "f", "m.c:1", "no f"),), failure="broke"),
        BuildReport("k5", "", 0.0, missing="no such package"),
    ),
    (
        CellReport("k7", "amd", Verdict.DEAD, "panic", "tcg-amd-k7", "7.3.1-amd64", 1, 3, 1, 9.0),
        CellReport("k7", "intel", Verdict.NOT_RUN, "no time", "bochs-intel-k7"),
        CellReport("k6", "amd", Verdict.FAIL, "does not build", "tcg-amd-k6"),
        CellReport("6.16", "both", Verdict.NOT_RUN, "no headers"),
    ),
)


def statuses(document: dict[str, list[dict[str, str]]], kind: str) -> dict[str, str]:
    return {item["id"].rpartition(f"{STARTED}/")[2]: item["status"] for item in document[kind]}


def test_a_run_is_a_valid_document_in_the_communitys_words() -> None:
    document = kcidb.document(REPORT, {"tcg-amd-k7": RUN}, "0" * 40)
    assert kcidb_io.schema.LATEST.is_valid(json.loads(json.dumps(document)))
    assert statuses(document, "builds") == {"k7": "PASS", "k6": "FAIL", "k5": "MISS"}
    assert statuses(document, "tests") == {
        "k7/tcg-amd-k7": "FAIL",
        "k7/tcg-amd-k7/1": "PASS",
        "k7/tcg-amd-k7/2": "FAIL",
        "k7/tcg-amd-k7/3": "FAIL",
        "k7/tcg-amd-k7/4": "MISS",
        "k7/tcg-amd-k7/5": "SKIP",
        "k7/bochs-intel-k7": "SKIP",
        "k6/tcg-amd-k6": "FAIL",
    }
    ids = [item["id"] for kind in ("checkouts", "builds", "tests") for item in document[kind]]
    assert len(set(ids)) == len(ids)
    assert {item["origin"] for item in document["tests"]} == {"dunelab"}
    (checkout,) = document["checkouts"]
    assert (checkout["git_commit_hash"], checkout["patchset_hash"]) == ("0" * 40, "")
    bench = document["tests"][1]
    assert bench["path"] == "dunelab.test_programs.test_bench.fork"
    assert bench["misc"]["metrics"][0]["median"] == 3.0
    assert bench["environment"]["misc"]["vendor"] == "amd"
    assert document["tests"][2]["log_excerpt"] == "not ok x"
    assert document["tests"][2]["misc"]["place"] == "a.c:3"
    assert len(document["tests"][3]["log_excerpt"]) == 16384


def test_a_changed_tree_has_no_patchset_that_can_be_named() -> None:
    changed = MatrixReport("run", STARTED, 1.0, "0123456789ab-dirty", (), ())
    (checkout,) = kcidb.document(changed, {}, "0" * 40)["checkouts"]
    assert "patchset_hash" not in checkout
    (checkout,) = kcidb.document(changed, {}, None)["checkouts"]
    assert "git_commit_hash" not in checkout


def test_what_the_library_refuses_is_not_written() -> None:
    with pytest.raises(InfrastructureError, match=r"no valid KCIDB document: \$\.checkouts\[0\]"):
        kcidb.document(REPORT, {}, None, origin="My CI")


@pytest.mark.parametrize(
    ("test", "path"),
    [
        ("a/test_x.py::test_y", "dunelab.test_x.test_y"),
        ("a/test_x.py::test_y[tcg-amd-debian-6.12-rt:module]", "dunelab.test_x.test_y"),
        ("a/test_x.py::T::test_y[java-bochs-intel-k:x]", "dunelab.test_x.T.test_y.java"),
        ("after a/test_x.py::test_y[1.5 s]", "dunelab.test_x.test_y.1_5_s"),
    ],
)
def test_paths_do_not_hold_the_cell(test: str, path: str) -> None:
    assert results_kcidb.test_path(test) == path


def test_runs_are_found_beside_their_table(tmp_path: Path) -> None:
    write_results(RUN, tmp_path / "a/cells/tcg-amd-k7")
    write_results(RUN, tmp_path / "b/cells/tcg-amd-k6")
    assert set(cell_runs([tmp_path / "a", tmp_path / "b"])) == {"tcg-amd-k7", "tcg-amd-k6"}


def test_one_table_of_several_runs_is_a_document_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "matrix.json").write_text(json.dumps(REPORT.to_json()))
    write_results(RUN, tmp_path / "cells/tcg-amd-k7")
    words = ["matrix", "--from", str(tmp_path / "matrix.json"), "--results", str(tmp_path / "all")]
    assert main.main([*words, "--origin", "ours"]) == 1
    document = json.loads((tmp_path / "all/kcidb.json").read_text())
    assert len(document["tests"]) == 8
    assert document["tests"][0]["id"].startswith("ours:")
    # Without the library nothing is left that nobody has looked at.
    monkeypatch.setattr(results_kcidb, "is_there", lambda: False)
    main.main(words)
    assert not (tmp_path / "all/kcidb.json").exists()
    assert "no kcidb.json" in capsys.readouterr().err


def test_the_whole_name_of_a_commit() -> None:
    root = Path(__file__).resolve().parents[2]
    head = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert kcidb.commit_hash(root, f"{head[:12]}-dirty") == head
    assert kcidb.commit_hash(root, "0" * 12) is None
    assert kcidb.commit_hash(root, None) is None
