# SPDX-License-Identifier: MIT
"""``dunelab run`` and ``dunelab bench`` up to the point where pytest takes over."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from dunelab.bench.rows import suite_programs
from dunelab.cli import bench, run, suite
from dunelab.errors import InfrastructureError, UsageError
from dunelab.pytest_support.header import list_programs
from dunelab.results.report import make_header, write_results
from dunelab.results.schema import MetricResult, Outcome, RanOn, Run, TestResult
from dunelab.spec import EngineName

ROOT = Path(__file__).resolve().parents[2]


def parsed(module: object, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)  # type: ignore[attr-defined]
    return parser.parse_args(list(words))


def test_defaults_mean_auto(tmp_path: Path) -> None:
    words = suite.pytest_arguments(
        parsed(run, "--results", str(tmp_path)), ["a.py::b"], Path("/r"), 3
    )
    assert words[0] == "/r/a.py::b"
    assert words[words.index("--engine") + 1] == "auto"
    assert words[words.index("-n") + 1] == "3"
    assert words[words.index("--results") + 1] == str(tmp_path)
    assert "--vendor" not in words


def test_cells_are_passed_on() -> None:
    args = parsed(
        run, "--engine", "bochs", "--engine", "tcg", "--vendor", "amd", "--kernel", "k", "-n", "1"
    )
    words = suite.pytest_arguments(args, ["x"], Path("/r"), 1)
    assert [words[i + 1] for i, word in enumerate(words) if word == "--engine"] == ["bochs", "tcg"]
    assert words[words.index("--vendor") + 1] == "amd"
    assert words[words.index("--kernel") + 1] == "k"


def test_the_named_tests_exist() -> None:
    for test in (*run.PROGRAMS, bench.TESTS, *run.EVERYTHING):
        path, _, function = test.partition("::")
        assert (ROOT / path).exists()
        if function:
            assert f"def {function}(" in (ROOT / path).read_text()


def some_results(outcome: Outcome) -> Run:
    on = RanOn(
        "tcg-amd-k", "tcg", "tcg", "9", "amd", "max", "ticks", "k", "6", "a", "b", 1, "small", 2.0
    )
    result = TestResult(
        "t::bench", outcome, 1.0, "" if outcome is Outcome.PASSED else "why", on,
        (MetricResult("getpid", "ticks", (100.0, 100.0, 100.0), 9),),
    )  # fmt: skip
    return Run(make_header("2026-11-21T00:00:00", 1.0, [], ROOT), (result,))


@pytest.mark.parametrize(("outcome", "status"), [(Outcome.PASSED, 0), (Outcome.FAILED, 1)])
def test_bench_writes_its_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
    status: int,
) -> None:
    def fake_run(args: argparse.Namespace, tests: object, select: str, more: list[str]) -> int:
        assert (select, more) == ("", ["--costs"])
        write_results(some_results(outcome), args.results)
        return status

    monkeypatch.setattr(suite, "run", fake_run)
    target = tmp_path / "costs.json"
    args = parsed(bench, "--results", str(tmp_path / "r"), "--json", str(target))
    assert bench.run(args) == status
    assert json.loads(target.read_text())["results"][0]["metrics"][0]["median"] == 100
    printed = capsys.readouterr().out
    assert ("did not pass" in printed) is (status != 0)


def test_bench_without_results_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "run", lambda args, tests, select, more: 4)
    with pytest.raises(InfrastructureError, match="no results"):
        bench.run(parsed(bench, "--results", str(tmp_path)))


def test_a_suite_is_slow_programs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fake_run(args: argparse.Namespace, tests: object, select: str, more: list[str]) -> int:
        asked.extend((select, more))
        write_results(some_results(Outcome.PASSED), args.results)
        return 0

    monkeypatch.setattr(suite, "run", fake_run)
    results = ("--results", str(tmp_path / "r"))
    assert bench.run(parsed(bench, *results, "--suite", "apps")) == 0
    assert asked == [suite_programs("apps"), ["--costs", "--slow"]]
    with pytest.raises(UsageError, match="a part"):
        bench.run(parsed(bench, *results, "--suite", "apps", "--check"))
    with pytest.raises(UsageError, match="no suite"):
        bench.run(parsed(bench, *results, "--suite", "none"))


def test_bench_into_a_folder_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is a folder"):
        bench.run(parsed(bench, "--json", str(tmp_path)))


def test_the_gate_in_words_and_statuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[EngineName]] = []

    def fake_run(args: argparse.Namespace, tests: object, select: str, more: list[str]) -> int:
        asked.append(args.engine)
        results = some_results(Outcome.PASSED)
        on = results.results[0].ran_on
        assert on is not None
        known = replace(on, accelerator="tcg,icount", kernel_package="6-1", compiler="gcc 14")
        write_results(
            replace(results, results=(replace(results.results[0], ran_on=known),)), args.results
        )
        return 0

    monkeypatch.setattr(suite, "run", fake_run)
    where = ("--results", str(tmp_path / "r"), "--baselines", str(tmp_path / "b"))
    assert bench.run(parsed(bench, *where, "--check")) == 1
    assert "there is no baseline" in capsys.readouterr().out
    assert bench.run(parsed(bench, *where, "--accept", "why")) == 0
    assert asked == [list(bench.GATED)] * 4, "once for the check, three times for the baseline"
    assert "runs = 9" in (tmp_path / "b/tcg-amd-k.toml").read_text()
    assert bench.run(parsed(bench, *where, "--check", "--engine", "tcg")) == 0
    assert asked[-1] == ["tcg"]
    assert "gate: tcg-amd-k: ok, 1 metrics compared" in capsys.readouterr().out
    source = ("--from", str(tmp_path / "r/results.json"))
    svg = tmp_path / "x.svg"
    assert bench.run(parsed(bench, *where, *source, "--check", "--svg", str(svg))) == 0
    assert svg.read_text().startswith("<svg")
    assert len(asked) == 5, "--from measures nothing"


def test_failed_benches_are_not_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_results(some_results(Outcome.FAILED), tmp_path)
    words = ("--from", str(file), "--baselines", str(tmp_path / "b"), "--accept", "why")
    assert bench.run(parsed(bench, *words)) == 1
    assert "nothing accepted" in capsys.readouterr().out
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--from", "/nowhere/x.json"), "no such file"),
        (("--from", __file__, "--repeat", "2"), "leave --repeat out"),
        (("--repeat", "0"), "1 or more"),
        (("--accept", " "), "wants a reason"),
    ],
)
def test_bench_refuses_nonsense(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        bench.run(parsed(bench, *words))


def test_headers_of_this_trees_programs_are_good() -> None:
    assert list_programs(ROOT / "tests")
