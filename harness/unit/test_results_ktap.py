# SPDX-License-Identifier: MIT
"""The KTAP parser: what programs print, and what must never pass by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dunelab.results.ktap import (
    Directive,
    Metric,
    MetricUnit,
    Verdict,
    parse,
    parse_fact,
    parse_metric,
)

PLAIN = """\
KTAP version 1
1..3
# fact: cpl=0
# metric: forward=2954 ticks n=200 min=2954 max=2960
ok 1 - enters
# got 3 (0x3), want 4 (0x4)
not ok 2 - counts
ok 3 reads # SKIP no such device
"""

NESTED = """\
KTAP version 1
1..2
  KTAP version 1
  1..2
    KTAP version 1
    1..1
    # metric: deep=1 count
    ok 1 leaf
  ok 1 middle
  not ok 2 broken
# before its own line
not ok 1 group
ok 2 alone
"""


def test_plain_document() -> None:
    document = parse(PLAIN)
    assert document.version == 1
    assert document.plan == 3
    assert [result.verdict for result in document.results] == [
        Verdict.PASSED,
        Verdict.FAILED,
        Verdict.SKIPPED,
    ]
    assert document.results[0].name == "enters"
    assert document.results[1].diagnostics == ("got 3 (0x3), want 4 (0x4)",)
    assert document.results[2].reason == "no such device"
    assert document.facts == {"cpl": "0"}
    assert document.metrics == (Metric("forward", 2954, MetricUnit.TICKS, 200, 2954, 2960),)
    assert not document.passed
    assert document.complaints() == ("not ok counts: got 3 (0x3), want 4 (0x4)",)


def test_nested_documents() -> None:
    document = parse(NESTED)
    group = document.results[0]
    assert group.subtests is not None
    assert [path for path, _ in document.walk()] == [
        "group",
        "group/middle",
        "group/middle/leaf",
        "group/broken",
        "alone",
    ]
    assert document.all_metrics() == (Metric("deep", 1, MetricUnit.COUNT),)
    assert document.problems == ()
    assert "not ok group/broken" in document.complaints()


def test_subtest_failure_fails_a_parent_that_says_ok() -> None:
    text = "KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  not ok 1 inner\nok 1 outer\n"
    assert not parse(text).passed


@pytest.mark.parametrize(
    ("line", "verdict", "directive"),
    [
        ("ok 1 a # SKIP why", Verdict.SKIPPED, Directive.SKIP),
        ("not ok 1 a # SKIP why", Verdict.SKIPPED, Directive.SKIP),
        ("not ok 1 a # TODO later", Verdict.EXPECTED_FAILURE, Directive.TODO),
        ("ok 1 a # TODO later", Verdict.PASSED, Directive.TODO),
        ("not ok 1 a # XFAIL known", Verdict.EXPECTED_FAILURE, Directive.XFAIL),
        ("not ok 1 a # TIMEOUT 45 s", Verdict.FAILED, Directive.TIMEOUT),
        ("ok 1 a # ERROR lost", Verdict.FAILED, Directive.ERROR),
        ("not ok 1 a", Verdict.FAILED, None),
        ("ok 1", Verdict.PASSED, None),
        ("ok 1 a # not a directive", Verdict.PASSED, None),
    ],
)
def test_directives(line: str, verdict: Verdict, directive: Directive | None) -> None:
    document = parse(f"KTAP version 1\n1..1\n{line}\n")
    assert document.results[0].verdict is verdict
    assert document.results[0].directive is directive
    assert document.problems == ()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no KTAP output at all"),
        ("hello\nall fine\n", "no KTAP output at all"),
        ("KTAP version 1\n1..2\nok 1 a\n", "1 results where the plan says 2"),
        ("KTAP version 1\n1..1\nok 1 a\nok 2 b\n", "2 results where the plan says 1"),
        ("KTAP version 1\nok 1 a\n", "no plan line"),
        ("KTAP version 1\n1..2\nok 1 a\nok 3 b\n", "numbered 3 where 2 was due"),
        ("KTAP version 1\n1..1\nok 1 a\n1..1\n", "second plan"),
        ("KTAP version 2\n1..1\nok 1 a\n", "version 2 is not known"),
        ("KTAP version 1\n1..3\nok 1 a\nBail out! no device\n", "Bail out! no device"),
        ("KTAP version 1\n1..1\nnot ok a\n", "not ok"),
        ("KTAP version 1\n1..1\n# metric: a=fast ticks\nok 1 a\n", "malformed line"),
        ("KTAP version 1\n1..1\n# metric: a=3 parsecs\nok 1 a\n", "malformed line"),
        ("KTAP version 1\n1..1\n# fact: alone\nok 1 a\n", "malformed line"),
        ("KTAP version 1\n1..1\n  KTAP version 1\n  1..2\n  ok 1 a\n", "1 results where"),
        ("KTAP version 1\n1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n", "without the result line"),
    ],
)
def test_what_must_not_pass(text: str, complaint: str) -> None:
    document = parse(text)
    assert not document.passed
    assert not document.skipped
    assert complaint in "\n".join(document.complaints())


def test_noise_is_kept_and_harmless() -> None:
    text = (
        "hello\nKTAP version 1\n[   12.345678] usb 1-1: new device\n1..1\nok so far\n"
        "  ok 7 resembles a result, but nothing is nested here\nok 1 a\n"
    )
    document = parse(text)
    assert document.passed
    assert len(document.results) == 1
    assert "[   12.345678] usb 1-1: new device" in document.noise
    assert "ok so far" in document.noise


def test_whole_program_skipped() -> None:
    document = parse("KTAP version 1\n1..0 # SKIP needs two CPUs\n")
    assert document.skipped
    assert document.passed
    assert document.skip_reason == "needs two CPUs"


def test_bail_out_inside_a_subtest_ends_everything() -> None:
    document = parse("KTAP version 1\n1..2\n  KTAP version 1\n  1..2\n  Bail out! dead\n")
    assert document.bail_out == "dead"
    assert not document.passed


@pytest.mark.parametrize("text", ["metric: a=1", "metric: a=1 ticks n=0", "metric: a=1 ticks q=1"])
def test_malformed_metrics_are_none(text: str) -> None:
    assert parse_metric(text) is None


def test_fact_may_hold_spaces_and_equals_signs() -> None:
    assert parse_fact("fact: line=a = b") == ("line", "a = b")


NAMES = st.text(st.characters(min_codepoint=0x61, max_codepoint=0x7A), min_size=1, max_size=8)


@given(st.lists(st.tuples(st.booleans(), NAMES), max_size=12))
def test_every_result_comes_back(lines: list[tuple[bool, str]]) -> None:
    body = "".join(
        f"{'' if ok else 'not '}ok {number} {name}\n"
        for number, (ok, name) in enumerate(lines, start=1)
    )
    document = parse(f"KTAP version 1\n1..{len(lines)}\n{body}")
    assert [(result.ok, result.name) for result in document.results] == lines
    assert document.problems == ()
    assert document.passed is all(ok for ok, _ in lines)


@given(st.integers(1, 8), st.integers(0, 7))
def test_a_truncated_stream_never_passes(count: int, kept: int) -> None:
    lines = [f"ok {number} t\n" for number in range(1, count + 1)]
    text = f"KTAP version 1\n1..{count}\n" + "".join(lines[: min(kept, count - 1)])
    assert not parse(text).passed


@given(
    NAMES,
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(list(MetricUnit)),
    st.integers(1, 10**6),
)
def test_metric_round_trip(name: str, value: int, unit: MetricUnit, samples: int) -> None:
    found = parse_metric(f"metric: {name}={value} {unit} n={samples} min={value} max={value}")
    assert found == Metric(name, float(value), unit, samples, float(value), float(value))


@given(st.text(max_size=400))
def test_any_text_is_read_without_an_exception(text: str) -> None:
    parse(text)


LINES = st.sampled_from(
    [
        "KTAP version 1", "1..2", "ok 1 a", "not ok 2 b", "# x", "  KTAP version 1", "  1..1",
        "  ok 1 c", "    KTAP version 1", "Bail out! x", "  not ok", "noise", "    1..1", "",
        "# metric: a=1 ticks",
    ]
)  # fmt: skip


@given(st.lists(LINES, max_size=20))
def test_any_order_of_lines_is_read(lines: list[str]) -> None:
    document = parse("\n".join(lines))
    failed = any(result.verdict is Verdict.FAILED for _, result in document.walk())
    if failed or document.bail_out is not None:
        assert not document.passed
