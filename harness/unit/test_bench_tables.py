# SPDX-License-Identifier: MIT
"""Rows, tables, the plot, and the rank test of ``dunelab bench``."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from dunelab.bench import ranks
from dunelab.bench.rows import (
    Row,
    RowSpec,
    parse_specs,
    read_specs,
    rows_of,
    suite_programs,
    tables,
)
from dunelab.bench.svg import decades, plot
from dunelab.bench.table import text_table
from dunelab.errors import UsageError
from dunelab.results.report import render
from dunelab.results.schema import MetricResult, Outcome, RanOn, TestResult

SVG = "{http://www.w3.org/2000/svg}"
ON = RanOn(
    "tcg-amd-k", "tcg", "tcg,icount", "9", "amd", "max", "ticks", "k", "6.12.1",
    "aa11", "bb22", 1, "small", 2.0, "6.12.1-1", "gcc-14 14",
)  # fmt: skip


def metrics(**values: float) -> dict[str, MetricResult]:
    return {
        name: MetricResult(name, "exits" if name.endswith("_exits") else "ticks", (value,), 1)
        for name, value in values.items()
    }


def titles(rows: tuple[Row, ...]) -> list[str]:
    return [row.title for row in rows]


def result(test: str, found: dict[str, MetricResult], on: RanOn = ON) -> TestResult:
    return TestResult(test, Outcome.PASSED, 1.0, "", on, tuple(found.values()))


def test_names_make_rows_by_themselves() -> None:
    found = metrics(a_native=100, a_dune=50, a_dune_exits=2, lone=7, b_native=3, c_dune=4)
    rows = rows_of(found, ())
    assert titles(rows) == ["a", "lone", "b", "c"]
    assert rows[0].ratio == 2
    assert rows[0].exits is found["a_dune_exits"]
    assert rows[1].ratio is None
    assert (rows[2].native, rows[2].dune) == (found["b_native"], None)


def test_an_entry_makes_a_row() -> None:
    spec = RowSpec("call", "ring3", "ptrace", "ring3_exits", 25.0)
    rows = rows_of(metrics(ptrace=1000, ring3=40, ring3_exits=1), (spec,))
    assert titles(rows) == ["call"]
    assert (rows[0].ratio, rows[0].paper) == (25, 25)
    assert rows[0].exits is not None


def test_half_a_comparison_is_still_printed() -> None:
    spec = RowSpec("call", "ring3", "ptrace", "ring3_exits", 25.0)
    assert titles(rows_of(metrics(ring3=40), (spec,))) == ["ring3"]


def test_one_metric_may_be_in_several_rows_and_none_is_lost() -> None:
    specs = (RowSpec("x", "a", "n", "a_exits"), RowSpec("y", "b", "n", "b_exits"))
    assert titles(rows_of(metrics(n=10, a=5, b=2, z=1), specs)) == ["x", "y", "z"]


def test_the_papers_ratios() -> None:
    by_title = {spec.title: spec.paper for spec in read_specs()}
    assert round(by_title["ring-3 call forwarded, against ptrace"] or 0, 1) == 25.0
    assert round(by_title["trap"] or 0, 1) == 4.8
    assert round(by_title["getpid"] or 0, 3) == 0.154
    assert len(by_title) == len(read_specs())


@pytest.mark.parametrize("entry", [{"title": "x"}, {"title": "x", "dune": "y", "nativ": "z"}])
def test_bad_entries_are_refused(entry: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="bad entry"):
        parse_specs({"row": [entry]})


def test_a_suite_names_its_programs() -> None:
    assert "snapshot" in suite_programs("apps")
    with pytest.raises(UsageError, match="no suite 'app' of costs, only: apps"):
        suite_programs("app")


def test_one_table_per_place() -> None:
    other = replace(ON, accelerator="tcg", cpus=2)
    found = tables(
        [result("t::a", metrics(a=1)), result("t::b", metrics(b=1), other),
         result("t::c", metrics(c=1))], ()
    )  # fmt: skip
    assert [titles(table.rows) for table in found] == [["a", "c"], ["b"]]
    with pytest.raises(UsageError, match="two programs measure a"):
        tables([result("t::a", metrics(a=1)), result("t::b", metrics(a=1))], ())


def test_the_text() -> None:
    found = tables([result("t", metrics(getpid_native=300, getpid_dune=600, x_exits=2))],
                   read_specs())  # fmt: skip
    text = render(*(text_table(table) for table in found), width=120)
    for words in ("tcg-amd-k", "tcg,icount", "6.12.1", "aa11", "bb22", "ticks", "0.154", "0.5",
                  "x_exits (exits)"):  # fmt: skip
        assert words in text


def test_the_plot_is_svg_with_a_bar_per_ratio() -> None:
    found = tables(
        [result("t", metrics(getpid_native=300, getpid_dune=600, a_native=90, a_dune=3, z=1))],
        read_specs(),
    )
    root = ET.fromstring(plot(found))
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.get("class") == "bar"]
    marks = [mark for mark in root.iter(f"{SVG}line") if mark.get("class") == "paper"]
    assert (len(bars), len(marks)) == (2, 1)
    left, right = (float(bar.get("x", "nan")) for bar in bars)
    assert left < right
    assert float(bars[0].get("width", "nan")) < float(bars[1].get("width", "nan"))
    assert ET.fromstring(plot(())).tag == f"{SVG}svg"


def test_decades() -> None:
    assert decades([0.154, 44]) == (-1, 2)
    assert decades([]) == (0, 1)


def test_ranks_share_ties() -> None:
    assert ranks.ranks([10, 30, 20, 20]) == [1, 4, 2.5, 2.5]


def test_exact_p() -> None:
    # Two lots of four that do not overlap: 2 of 70 orders are as far apart.
    assert ranks.compare([1, 2, 3, 4], [5, 6, 7, 8]).p == pytest.approx(2 / 70)
    assert ranks.compare([1, 1, 1, 1], [1, 1, 1, 1]).p == 1


def test_the_approximation_is_close_to_the_exact_value(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = [1, 4, 6, 7, 9, 12, 13, 20], [8, 10, 11, 14, 15, 16, 17, 3]
    exact = ranks.compare(a, b).p
    monkeypatch.setattr(ranks, "_EXACT_ORDERS", 0)
    assert ranks.compare(a, b).p == pytest.approx(exact, abs=0.01)


def test_a_shift_is_found_and_noise_is_not() -> None:
    dice = random.Random(4)
    a = [1000 + dice.gauss(0, 20) for _ in range(40)]
    same = [1000 + dice.gauss(0, 20) for _ in range(40)]
    slower = [1040 + dice.gauss(0, 20) for _ in range(40)]
    assert not ranks.compare(a, same).differs
    found = ranks.compare(a, slower)
    assert found.differs
    assert found.change == pytest.approx(0.04, abs=0.01)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(UsageError, match="too few"):
        ranks.compare([1, 2, 3], [4, 5, 6])
