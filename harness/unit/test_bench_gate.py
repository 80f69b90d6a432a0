# SPDX-License-Identifier: MIT
"""Baselines, bands, and what the gate says of made-up figures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dunelab.bench import baseline, gate
from dunelab.bench.annotate import of_verdicts
from dunelab.bench.baseline import Baseline, Entry
from dunelab.errors import UsageError
from dunelab.images.builder import package_version
from dunelab.results.report import make_header
from dunelab.results.schema import MetricResult, Outcome, RanOn, Run, TestResult

ROOT = Path(__file__).resolve().parents[2]
CELL = "tcg-amd-k"
ON = RanOn(
    cell=CELL, engine="tcg", accelerator="tcg,icount", engine_version="9", vendor="amd",
    cpu_model="max", unit="ticks", kernel="k", kernel_release="6.12.1", module_build_id="aa",
    libdune_build_id="bb", cpus=1, image="small", boot_seconds=3.0,
    kernel_package="6.12.1-1", compiler="gcc-14 14.2.0-19",
)  # fmt: skip


def metric(name: str, *values: float, unit: str = "ticks") -> MetricResult:
    return MetricResult(name, unit, values, 15 * len(values))


def run_of(*metrics: MetricResult, on: RanOn = ON, commit: str | None = "bbbb") -> Run:
    header = replace(make_header("2026-11-21T00:00:00", 1.0, [], ROOT), git_commit=commit)
    return Run(header, (TestResult("t::a", Outcome.PASSED, 1.0, "", on, metrics),))


def accepted(tmp_path: Path, *metrics: MetricResult) -> Path:
    gate.accept(run_of(*metrics, commit="aaaa"), tmp_path, "because")
    return tmp_path


@pytest.mark.parametrize(
    ("figure", "band", "noise"),
    [
        (metric("a", 497, 497, 497), 5, "rule"),
        (metric("a", 20000, 20000, 20000), 100, "rule"),
        (metric("a", 57588, 56642, 57403), 1419, "measured"),
        (metric("a", 200, 202, 204), 6, "measured"),
        (metric("a", 1, 1, unit="exits"), 0.05, "rule"),
        (metric("a", 364544, 364544, unit="bytes"), 4096, "rule"),
    ],
)
def test_bands(figure: MetricResult, band: float, noise: str) -> None:
    entry = Entry.of(figure)
    assert (entry.band, entry.noise) == (band, noise)


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    folder = accepted(tmp_path, metric("a", 300, 301.5, 300), metric("a_exits", 1.01, unit="exits"))
    found = baseline.read(folder, CELL)
    assert found is not None
    assert found == Baseline.from_toml(found.to_toml(), "x")
    assert (found.commit, found.reason, found.runs) == ("aaaa", "because", 3)
    assert found.metrics["a"] == Entry("ticks", 300, 300, 301.5, 5, "rule")
    assert found.environment.compiler == "gcc-14 14.2.0-19"
    assert "SPDX" in baseline.file_of(folder, CELL).read_text()


def test_reasons_may_hold_anything(tmp_path: Path) -> None:
    gate.accept(run_of(metric("a", 1)), tmp_path, 'a "quoted" \\ reason, ±5 %\nand more')
    found = baseline.read(tmp_path, CELL)
    assert found is not None
    assert found.reason == 'a "quoted" \\ reason, ±5 %\nand more'


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    baseline.file_of(tmp_path, CELL).write_text("schema = 2\n")
    with pytest.raises(UsageError, match=CELL):
        gate.check(run_of(metric("a", 1)), tmp_path)


@pytest.mark.parametrize(("new", "ok"), [(497, True), (502, True), (492, True), (503, False),
                                         (507, False), (490, False)])  # fmt: skip
def test_a_median_may_move_within_its_band(tmp_path: Path, new: float, ok: bool) -> None:
    folder = accepted(tmp_path, metric("getpid_dune", 497, 497, 497))
    passed, lines = gate.check(run_of(metric("getpid_dune", new, new, new)), folder)
    assert passed is ok
    assert any("moved getpid_dune: 497" in line for line in lines) is not ok


def test_what_moved_is_named_with_figures_and_commits(tmp_path: Path) -> None:
    folder = accepted(tmp_path, metric("getpid_dune", 497), metric("fork", 1335134))
    found = run_of(metric("getpid_dune", 507), metric("fork", 1335200), commit="bbbb-dirty")
    text = "\n".join(gate.check(found, folder)[1])
    assert "moved getpid_dune: 497 -> 507 ticks (+10, +2.01%; band 5), dearer" in text
    assert "aaaa..bbbb-dirty" in text
    assert "fork" not in text
    assert gate.ACCEPT in text


def test_exits_are_gated(tmp_path: Path) -> None:
    folder = accepted(tmp_path, metric("a_exits", 1, unit="exits"))
    assert gate.check(run_of(metric("a_exits", 1.04, unit="exits")), folder)[0]
    assert not gate.check(run_of(metric("a_exits", 1.1, unit="exits")), folder)[0]
    assert not gate.check(run_of(metric("a_exits", 1, unit="ticks")), folder)[0]


def test_new_rows_are_reported_and_vanished_ones_fail(tmp_path: Path) -> None:
    folder = accepted(tmp_path, metric("a", 100), metric("b", 100))
    passed, lines = gate.check(run_of(metric("a", 100), metric("c", 1)), folder)
    assert not passed
    assert "  vanished b" in lines
    assert "  new c: without a baseline yet" in lines
    passed, lines = gate.check(run_of(metric("a", 100), metric("b", 100), metric("c", 1)), folder)
    assert passed
    assert "  new c: without a baseline yet" in lines


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel_package", "6.12.2-1"),
        ("compiler", "gcc-14 14.3.0-1"),
        ("engine_version", "10"),
        ("cpu_model", "max,npt=off"),
        ("compiler", ""),
    ],
)
def test_another_environment_is_not_compared(tmp_path: Path, field: str, value: str) -> None:
    folder = accepted(tmp_path, metric("a", 100))
    elsewhere = replace(ON, **{field: value})  # type: ignore[arg-type]
    passed, lines = gate.check(run_of(metric("a", 900), on=elsewhere), folder)
    assert passed
    assert "NOT COMPARED" in lines[0]
    assert any(field in line for line in lines)
    assert not any("moved" in line for line in lines)


def test_no_baseline_fails(tmp_path: Path) -> None:
    passed, lines = gate.check(run_of(metric("a", 1)), tmp_path)
    assert not passed
    assert "there is no baseline" in lines[0]


@pytest.mark.parametrize(
    ("changes", "can"),
    [
        ({}, True),
        ({"accelerator": "tcg"}, False),
        ({"engine": "bochs", "accelerator": "bochs"}, True),
        ({"engine": "kvm", "accelerator": "kvm", "unit": "cycles"}, False),
    ],
)
def test_only_ticks_that_repeat_are_gated(
    tmp_path: Path, changes: dict[str, str], can: bool
) -> None:
    found = run_of(metric("a", 100), on=replace(ON, **changes))  # type: ignore[arg-type]
    assert bool(gate.accept(found, tmp_path, "x")) is can
    passed, lines = gate.check(found, tmp_path)
    assert passed is can
    assert any("recorded, not gated" in line for line in lines) is not can


def test_runs_are_merged_over_guests() -> None:
    first, second = run_of(metric("a", 100, 101)), run_of(metric("a", 110, 111))
    merged = baseline.merge([first, second])
    assert merged.results[0].metrics == (metric("a", 100, 101, 110, 111),)
    failed = replace(second.results[0], outcome=Outcome.FAILED, message="why")
    merged = baseline.merge([replace(first, results=(failed,)), second])
    assert merged.results[0].outcome is Outcome.FAILED


def test_measured_twice_is_an_error(tmp_path: Path) -> None:
    once = run_of(metric("a", 1))
    twice = replace(once, results=(*once.results, replace(once.results[0], test="t::b")))
    with pytest.raises(UsageError, match="two programs measure a"):
        gate.check(twice, tmp_path)


def test_wide_bands_are_told(tmp_path: Path) -> None:
    written = gate.accept(run_of(metric("a", 100, 120), metric("b", 7)), tmp_path, "x")
    lines = gate.wide_bands(written)
    assert "wider than the rule: 1" in lines[0]
    assert lines[1].startswith("  a ±30 of 110")


def test_the_compiler_is_what_dpkg_says() -> None:
    status = (
        "Package: cpp-14\nVersion: 14.1\n\nPackage: gcc-14\nStatus: installed\n"
        "Depends: x (= 1)\nVersion: 14.2.0-19\n\nPackage: gcc-14-base\nVersion: 3\n"
    )
    assert package_version(status, "gcc-14") == "gcc-14 14.2.0-19"
    assert package_version(status, "gcc") == ""


def test_this_trees_baselines_are_legible() -> None:
    for path in (ROOT / baseline.FOLDER).glob("*.toml"):
        found = Baseline.from_toml(path.read_text(), path.name)
        assert found.cell == path.stem
        assert found.metrics
        assert found.to_toml() == path.read_text()


def test_what_moved_is_an_annotation_at_its_baseline(tmp_path: Path) -> None:
    folder = tmp_path / "ci/baselines"
    gate.accept(run_of(metric("a", 100), metric("b", 100), commit="aaaa"), folder, "because")
    (file,) = folder.iterdir()
    lines = file.read_text().splitlines()
    place = lines.index(next(line for line in lines if line.startswith('"a"'))) + 1
    moved = gate.judge(run_of(metric("a", 900)), folder)
    found = [str(item) for item in of_verdicts(moved, folder, tmp_path)]
    assert found[0].startswith(f"::error file=ci/baselines/{file.name},line={place},")
    assert "dearer" in found[0]
    assert "it was not measured" in found[1]
    elsewhere = replace(ON, kernel_package="9")
    (said,) = of_verdicts(
        gate.judge(run_of(metric("a", 1), on=elsewhere), folder), folder, tmp_path
    )
    assert str(said).startswith(f"::warning file=ci/baselines/{file.name},line=1,")
    assert "NOT COMPARED" in said.text
    (said,) = of_verdicts(
        gate.judge(run_of(metric("a", 1)), tmp_path / "x"), tmp_path / "x", tmp_path
    )
    assert said.level == "error"
    assert "no baseline" in said.text
    same = run_of(metric("a", 100), metric("b", 100))
    assert not of_verdicts(gate.judge(same, folder), folder, tmp_path)
