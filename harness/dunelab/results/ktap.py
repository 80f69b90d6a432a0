# SPDX-License-Identifier: MIT
"""KTAP version 1: the kernel's dialect of the Test Anything Protocol.

Follows the kernel's own description, Documentation/dev-tools/ktap.rst:
a version line, a plan, numbered result lines with an optional directive,
diagnostics, and nested documents indented by two spaces each.  Two private
forms of diagnostic line carry numbers and facts:

    # metric: forward=2954 ticks n=3 min=2954 max=2960
    # fact: cpl=0

Whatever else stands between (the kernel printing into the same stream, a
program's own chatter) is noise: kept, never fatal.  What the plan promised
and the stream does not hold is a failure: a program that died half way must
not look like one that passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Directive(StrEnum):
    """What may follow ``#`` on a result line."""

    SKIP = "SKIP"
    TODO = "TODO"
    XFAIL = "XFAIL"
    TIMEOUT = "TIMEOUT"
    ERROR = "ERROR"


class Verdict(StrEnum):
    """What a result line amounts to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected failure"


class MetricUnit(StrEnum):
    """The units a guest program may report in."""

    TICKS = "ticks"
    EXITS = "exits"
    BYTES = "bytes"
    COUNT = "count"
    NS = "ns"


@dataclass(frozen=True)
class Metric:
    """One number a program measured; ``low`` and ``high`` span its samples."""

    name: str
    value: float
    unit: MetricUnit
    samples: int = 1
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class KtapResult:
    """One ``ok`` / ``not ok`` line with all that belongs to it."""

    number: int
    name: str
    ok: bool
    directive: Directive | None = None
    reason: str = ""
    diagnostics: tuple[str, ...] = ()
    subtests: KtapDocument | None = None

    @property
    def verdict(self) -> Verdict:
        """The line's own word, weighed with its directive and its subtests."""
        if self.directive is Directive.SKIP:
            return Verdict.SKIPPED
        if self.directive in (Directive.TIMEOUT, Directive.ERROR):
            return Verdict.FAILED
        if self.directive in (Directive.TODO, Directive.XFAIL):
            return Verdict.PASSED if self.ok else Verdict.EXPECTED_FAILURE
        if not self.ok:
            return Verdict.FAILED
        if self.subtests is not None and not self.subtests.passed:
            return Verdict.FAILED
        return Verdict.PASSED


@dataclass(frozen=True)
class KtapDocument:
    """One KTAP document: the whole output, or one nested level of it."""

    version: int | None = None
    plan: int | None = None
    plan_reason: str = ""
    results: tuple[KtapResult, ...] = ()
    diagnostics: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    facts: dict[str, str] = field(default_factory=dict, hash=False)
    bail_out: str | None = None
    problems: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()

    @property
    def skipped(self) -> bool:
        """All of it was skipped: an empty plan, or nothing but skipped lines."""
        if self.problems or self.bail_out is not None:
            return False
        if self.plan == 0:
            return True
        verdicts = {result.verdict for result in self.results}
        return verdicts == {Verdict.SKIPPED}

    @property
    def passed(self) -> bool:
        """No failed line, nothing missing, nothing malformed, no bail out."""
        if self.problems or self.bail_out is not None:
            return False
        return all(result.verdict is not Verdict.FAILED for result in self.results)

    @property
    def skip_reason(self) -> str:
        """The first reason given for a skip, empty where none was given."""
        if self.plan == 0:
            return self.plan_reason
        return next((result.reason for result in self.results if result.reason), "")

    def walk(self, prefix: str = "") -> Iterator[tuple[str, KtapResult]]:
        """Every result with its path, parents before their subtests."""
        for result in self.results:
            path = f"{prefix}{result.name or result.number}"
            yield path, result
            if result.subtests is not None:
                yield from result.subtests.walk(f"{path}/")

    def all_metrics(self) -> tuple[Metric, ...]:
        """Metrics of this document and of all nested ones, in that order."""
        nested = (
            metric
            for result in self.results
            if result.subtests is not None
            for metric in result.subtests.all_metrics()
        )
        return (*self.metrics, *nested)

    def all_facts(self) -> dict[str, str]:
        """Facts of all levels; the outer level wins where both name a key."""
        merged: dict[str, str] = {}
        for result in self.results:
            if result.subtests is not None:
                merged.update(result.subtests.all_facts())
        merged.update(self.facts)
        return merged

    def complaints(self) -> tuple[str, ...]:
        """Each reason why this document did not pass, one line each."""
        lines = [f"not ok {path}" + _because(result) for path, result in self._failures()]
        lines.extend(self.problems)
        if self.bail_out is not None:
            lines.append(f"Bail out! {self.bail_out}".rstrip())
        return tuple(lines)

    def _failures(self) -> Iterator[tuple[str, KtapResult]]:
        for path, result in self.walk():
            if result.verdict is Verdict.FAILED:
                yield path, result


def _because(result: KtapResult) -> str:
    parts = []
    if result.directive is not None:
        parts.append(f"{result.directive} {result.reason}".rstrip())
    if result.subtests is not None:
        parts.extend(result.subtests.problems)
        if result.subtests.bail_out is not None:
            parts.append(f"Bail out! {result.subtests.bail_out}".rstrip())
    parts.extend(result.diagnostics)
    return f": {'; '.join(parts)}" if parts else ""


_VERSION = re.compile(r"^(K?TAP) version (\d+)\s*$")
_PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*(.*?))?\s*$")
# The number is compulsory, so that "ok so far" stays chatter; but a "not ok"
# without one is never overlooked.
_RESULT = re.compile(r"^(?:(not )ok(?:\s+(\d+)(?!\S))?|ok\s+(\d+)(?!\S))(?:\s+(.*?))?\s*$")
_DIRECTIVE = re.compile(
    r"(?:^|\s)#\s*(SKIP(?:PED)?|TODO|XFAIL|TIMEOUT|ERROR)\b:?\s*(.*)$", re.IGNORECASE
)
_BAIL_OUT = re.compile(r"^Bail out!\s*(.*?)\s*$")
_DIAGNOSTIC = re.compile(r"^#(?:\s(.*))?$")
_NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_METRIC = re.compile(
    rf"^metric:\s*(?P<name>[^\s=]+)=(?P<value>{_NUMBER})\s+(?P<unit>[a-z]+)(?P<rest>(?:\s+\S+)*)\s*$"
)
_METRIC_EXTRA = re.compile(rf"^(n|min|max)=({_NUMBER})$")
_FACT = re.compile(r"^fact:\s*(?P<key>[^\s=]+)=(?P<value>.*?)\s*$")


def parse_metric(text: str) -> Metric | None:
    """The metric of a diagnostic's text (without ``#``), or None."""
    match = _METRIC.match(text)
    if match is None or match["unit"] not in MetricUnit.__members__.values():
        return None
    extras: dict[str, float] = {}
    for word in match["rest"].split():
        extra = _METRIC_EXTRA.match(word)
        if extra is None:
            return None
        extras[extra[1]] = float(extra[2])
    samples = extras.get("n", 1.0)
    if samples < 1 or samples != int(samples):
        return None
    return Metric(
        name=match["name"],
        value=float(match["value"]),
        unit=MetricUnit(match["unit"]),
        samples=int(samples),
        low=extras.get("min"),
        high=extras.get("max"),
    )


def parse_fact(text: str) -> tuple[str, str] | None:
    """The key and value of a diagnostic's text (without ``#``), or None."""
    match = _FACT.match(text)
    return (match["key"], match["value"]) if match else None


@dataclass
class _Level:
    """A document while it is being read; ``pending`` waits for its result line."""

    indent: int
    version: int | None = None
    plan: int | None = None
    plan_reason: str = ""
    results: list[KtapResult] = field(default_factory=list)
    diagnostics: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    bail_out: str | None = None
    problems: list[str] = field(default_factory=list)
    child: KtapDocument | None = None

    def diagnostic(self, text: str) -> None:
        metric = parse_metric(text)
        fact = parse_fact(text)
        if metric is not None:
            self.metrics.append(metric)
        elif fact is not None:
            self.facts[fact[0]] = fact[1]
        elif text.startswith(("metric:", "fact:")):
            # A number that silently vanishes would take its gate with it.
            self.problems.append(f"malformed line: # {text}")
        else:
            self.pending.append(text)

    def result(self, match: re.Match[str]) -> None:
        digits = match[2] or match[3]
        number = int(digits) if digits is not None else len(self.results) + 1
        name, directive, reason = _split_description(match[4] or "")
        if number != len(self.results) + 1:
            self.problems.append(f"result numbered {number} where {len(self.results) + 1} was due")
        self.results.append(
            KtapResult(
                number=number,
                name=name,
                ok=match[1] is None,
                directive=directive,
                reason=reason,
                diagnostics=tuple(self.pending),
                subtests=self.child,
            )
        )
        self.pending.clear()
        self.child = None

    def set_plan(self, count: int, reason: str) -> None:
        if self.plan is not None:
            self.problems.append(f"second plan 1..{count} after 1..{self.plan}")
            return
        self.plan, self.plan_reason = count, reason

    def close(self, noise: tuple[str, ...] = ()) -> KtapDocument:
        if self.child is not None:
            self.problems.append("subtests without the result line that closes them")
            self.problems.extend(f"  {line}" for line in self.child.complaints())
        if self.plan is None:
            self.problems.append("no plan line (1..N)")
        elif len(self.results) > self.plan or (
            len(self.results) < self.plan and self.bail_out is None
        ):
            self.problems.append(f"{len(self.results)} results where the plan says {self.plan}")
        return KtapDocument(
            version=self.version,
            plan=self.plan,
            plan_reason=self.plan_reason,
            results=tuple(self.results),
            diagnostics=tuple(self.diagnostics + self.pending),
            metrics=tuple(self.metrics),
            facts=dict(self.facts),
            bail_out=self.bail_out,
            problems=tuple(self.problems),
            noise=noise,
        )


def _split_description(text: str) -> tuple[str, Directive | None, str]:
    text = text.removeprefix("- ").strip()
    match = _DIRECTIVE.search(text)
    if match is None:
        return text, None, ""
    word = match[1].upper()
    directive = Directive.SKIP if word.startswith("SKIP") else Directive(word)
    return text[: match.start()].strip(), directive, match[2].strip()


def _is_ktap(body: str) -> bool:
    return bool(
        _VERSION.match(body)
        or _PLAN.match(body)
        or _RESULT.match(body)
        or _DIAGNOSTIC.match(body)
        or _BAIL_OUT.match(body)
    )


def parse(text: str) -> KtapDocument:
    """Read a program's whole standard output.

    A stream without any KTAP line yields a document whose ``problems`` say so:
    silence is not success.
    """
    levels = [_Level(indent=0)]
    noise: list[str] = []
    seen = False
    for raw in text.splitlines():
        line = raw.rstrip()
        body = line.lstrip(" ")
        if not body:
            continue
        indent = len(line) - len(body)
        if not _is_ktap(body):
            noise.append(line)
            continue
        seen = True
        _feed(levels, indent, body, noise, line)
    while len(levels) > 1:
        _close_level(levels)
    if not seen:
        levels[0].problems.append("no KTAP output at all")
    return levels[0].close(tuple(noise))


def _close_level(levels: list[_Level]) -> None:
    finished = levels.pop()
    parent = levels[-1]
    if parent.child is not None:
        parent.problems.append("two groups of subtests before one result line")
    parent.child = finished.close()
    if finished.bail_out is not None and parent.bail_out is None:
        # "Bail out!" ends the whole run, whatever level it is printed on.
        parent.bail_out = finished.bail_out


def _feed(levels: list[_Level], indent: int, body: str, noise: list[str], line: str) -> None:
    while len(levels) > 1 and indent < levels[-1].indent:
        _close_level(levels)
    opens = _VERSION.match(body) or body.startswith("# Subtest:")
    if indent > levels[-1].indent:
        if not opens and not _PLAN.match(body):
            # Indented, but nothing opened a nested document: a program's own
            # output that merely resembles KTAP.
            noise.append(line)
            return
        levels.append(_Level(indent=indent))
    level = levels[-1]
    if match := _VERSION.match(body):
        if level.version is not None:
            level.problems.append("second version line")
        level.version = int(match[2])
        if match[1] == "KTAP" and level.version != 1:
            level.problems.append(f"KTAP version {level.version} is not known here")
    elif match := _PLAN.match(body):
        _, _, reason = _split_description(f"# {match[2]}" if match[2] else "")
        level.set_plan(int(match[1]), reason or (match[2] or ""))
    elif match := _RESULT.match(body):
        level.result(match)
    elif match := _BAIL_OUT.match(body):
        level.bail_out = match[1]
    elif match := _DIAGNOSTIC.match(body):
        level.diagnostic((match[1] or "").strip())
