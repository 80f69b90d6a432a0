# SPDX-License-Identifier: MIT
"""The shape of results.json, and what is printed of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dunelab.errors import InfrastructureError
from dunelab.results.ktap import Metric, MetricUnit
from dunelab.results.report import (
    cell_table,
    make_header,
    metric_table,
    read_results,
    render,
    summarise,
    write_results,
)
from dunelab.results.schema import (
    MetricResult,
    Outcome,
    RanOn,
    Run,
    TestResult,
    load_schema,
    merge_runs,
    validate,
)
from dunelab.spec import EngineFacts, EngineName, Unit, Vendor

FACTS = EngineFacts(EngineName.TCG, "tcg", "QEMU 9", Vendor.AMD, "max", Unit.TICKS)
ON = RanOn.of(
    FACTS,
    cell="tcg-amd-debian-6.12",
    kernel="debian-6.12",
    release="6.12.1-amd64",
    module_build_id="ab12",
    libdune_build_id="cd34",
    cpus=2,
    image="small",
    boot_seconds=5.4321,
)


def run_of(*results: TestResult) -> Run:
    header = make_header("2026-11-21T00:00:00+00:00", 12.5, ["-n", "4"], Path(__file__).parent)
    return Run(header, results)


def example() -> Run:
    metric = MetricResult("forward", "ticks", (2954.0, 2956.0, 2950.0), 600)
    return run_of(
        TestResult("t.py::a[x]", Outcome.PASSED, 1.5, "", ON, (metric,), {"cpl": "0"},
                   (("enters", "passed"),), "logs/t.a_x_"),
        TestResult("t.py::b", Outcome.GUEST_DIED, 0.1, "guest died: panic", ON),
        TestResult("t.py::c", Outcome.SKIPPED, 0.0, "because"),
    )  # fmt: skip


def test_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(load_schema())


def test_every_property_of_the_schema_is_described_or_plain() -> None:
    ran_on = load_schema()["$defs"]["ran_on"]
    assert set(ran_on["required"]) == set(ran_on["properties"])


def test_write_and_read_back(tmp_path: Path) -> None:
    run = example()
    path = write_results(run, tmp_path)
    assert read_results(path) == run
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "other"),
        (("results", 0, "outcome"), "fine"),
        (("results", 0, "ran_on", "unit"), "seconds"),
        (("results", 0, "ran_on", "accelerator"), ""),
        (("results", 0, "metrics", 0, "runs"), []),
        (("results", 0, "extra"), 1),
        (("results", 1, "message"), ""),
        (("run", "host_cores"), 0),
        (("run", "started"), "yesterday"),
    ],
)
def test_schema_refuses(path: tuple[str | int, ...], value: object) -> None:
    document: Any = copy.deepcopy(example().to_json())
    node = document
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(InfrastructureError, match="do not fit"):
        validate(document)


def test_schema_demands_every_stamp() -> None:
    for key in example().to_json()["results"][0]["ran_on"]:
        document: Any = json.loads(json.dumps(example().to_json()))
        del document["results"][0]["ran_on"][key]
        with pytest.raises(InfrastructureError):
            validate(document)


def test_metrics_of_runs_are_merged_with_their_spread() -> None:
    runs = [
        [Metric("a", 100, MetricUnit.TICKS, 50), Metric("e", 1, MetricUnit.EXITS)],
        [Metric("a", 102, MetricUnit.TICKS, 50), Metric("e", 1, MetricUnit.EXITS)],
        [Metric("a", 101, MetricUnit.TICKS, 50), Metric("e", 1, MetricUnit.EXITS)],
    ]
    ticks, exits = merge_runs(runs, Unit.TICKS)
    assert (ticks.median, ticks.low, ticks.high, ticks.samples) == (101, 100, 102, 150)
    assert ticks.spread == pytest.approx(2 / 101)
    assert exits.spread == 0
    assert exits.unit == "exits"


def test_the_engine_names_the_unit() -> None:
    (metric,) = merge_runs([[Metric("a", 1, MetricUnit.TICKS)]], Unit.CYCLES)
    assert metric.unit == "cycles"


def test_spread_around_zero_does_not_divide() -> None:
    assert MetricResult("a", "ticks", (-1.0, 0.0, 1.0), 3).spread == 2.0


def test_summary_counts_by_cell_and_keeps_guestless_last() -> None:
    summaries = summarise(reversed(example().results))
    assert [summary.cell for summary in summaries] == ["tcg-amd-debian-6.12", "no guest"]
    assert summaries[0].counts[Outcome.GUEST_DIED] == 1
    assert summaries[0].counts[Outcome.PASSED] == 1
    assert summaries[0].total == 2


def test_tables_say_unit_and_accelerator() -> None:
    results = example().results
    text = render(cell_table(summarise(results)), metric_table(results), width=160)
    assert "tcg-amd-debian-6.12" in text
    assert "forward" in text
    assert "ticks" in text
    assert "2,954" in text
    assert "0.20%" in text


def test_no_metric_no_table() -> None:
    assert metric_table(example().results[1:]) is None


def test_header_outside_a_repository(tmp_path: Path) -> None:
    assert make_header("2026-11-21T00:00:00", 0, [], tmp_path).git_commit is None
