# SPDX-License-Identifier: MIT
"""Baselines: what each metric of a cell was, and how far it may move by noise.

One file per cell, ``ci/baselines/CELL.toml``.  It holds for what it was measured
on only: kernel package, compiler, emulator and its CPU model stand in it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dunelab.bench.rows import Place, metrics_by_place
from dunelab.errors import UsageError
from dunelab.results.report import write_atomically
from dunelab.results.schema import MetricResult, Run, TestResult
from dunelab.spec import EngineName, Unit

FOLDER = Path("ci/baselines")
SCHEMA = 1
SHARE = 0.005
# The commit of figures that were taken outside a repository.
UNKNOWN = "unknown"
# A handful of runs does not show how far apart runs can be.
MARGIN = 1.5
# What a median may move by where half a percent is less.
FLOORS = {str(Unit.TICKS): 5.0, "exits": 0.05, "bytes": 4096.0}
_HEADER = """\
# SPDX-License-Identifier: MIT
# Written by `dunelab bench --accept REASON`; what the fields mean: docs/benchmarks.md.
"""


@dataclass(frozen=True)
class Environment:
    """What figures must share to be comparable."""

    accelerator: str
    engine_version: str
    cpu_model: str
    kernel_package: str
    compiler: str

    @classmethod
    def of(cls, place: Place) -> Environment:
        """Of the place some figures were measured on."""
        return cls(**{name: getattr(place, name) for name in cls.__dataclass_fields__})

    def differences(self, other: Environment) -> list[str]:
        """What is not the same, in words."""
        mine, others = asdict(self), asdict(other)
        return [
            f"{name} was {mine[name] or 'unknown'}, is {others[name] or 'unknown'}"
            for name in mine
            if mine[name] != others[name] or not mine[name]
        ]


@dataclass(frozen=True)
class Entry:
    """One metric: its median, the span of all runs, and its noise band.

    ``noise`` says where the band comes from: ``rule`` (0.5 % or the unit's
    floor) or ``measured`` (the distance of the furthest runs, with a margin, was wider).
    """

    unit: str
    median: float
    low: float
    high: float
    band: float
    noise: str

    @classmethod
    def of(cls, metric: MetricResult) -> Entry:
        """From all runs of a metric."""
        rule = max(SHARE * abs(metric.median), FLOORS.get(metric.unit, 0.0))
        measured = MARGIN * (metric.high - metric.low)
        return cls(
            unit=metric.unit,
            median=metric.median,
            low=metric.low,
            high=metric.high,
            band=round(max(rule, measured), 2),
            noise="measured" if measured > rule else "rule",
        )


@dataclass(frozen=True)
class Baseline:
    """One file."""

    cell: str
    commit: str
    reason: str
    runs: int
    environment: Environment
    metrics: Mapping[str, Entry]

    def to_toml(self) -> str:
        """The file's text: one line per metric, so that a diff is legible."""
        lines = [f"schema = {SCHEMA}"]
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in (
                ("cell", self.cell),
                ("commit", self.commit),
                ("reason", self.reason),
                ("runs", self.runs),
            )
        ]
        lines += ["", "[environment]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in asdict(self.environment).items()]
        lines += ["", "[metrics]"]
        for name, entry in self.metrics.items():
            fields = ", ".join(
                f"{key} = {json.dumps(value) if isinstance(value, str) else f'{value:.10g}'}"
                for key, value in asdict(entry).items()
            )
            lines.append(f"{json.dumps(name)} = {{ {fields} }}")
        return _HEADER + "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str, where: str) -> Baseline:
        """The inverse; ``where`` names the file in errors."""
        try:
            raw = tomllib.loads(text)
            if raw["schema"] != SCHEMA:
                raise KeyError("schema")
            return cls(
                cell=raw["cell"],
                commit=raw["commit"],
                reason=raw["reason"],
                runs=raw["runs"],
                environment=Environment(**raw["environment"]),
                metrics={name: Entry(**entry) for name, entry in raw["metrics"].items()},
            )
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise UsageError(
                f"{where} is no baseline: {error!r}", next_command="dunelab bench --accept REASON"
            ) from error


@dataclass(frozen=True)
class Measured:
    """The figures of a cell that can be gated, with what they were measured on."""

    cell: str
    environment: Environment
    metrics: Mapping[str, MetricResult]


def can_be_gated(place: Place) -> bool:
    """Whether ticks repeat there: Bochs, and tcg where it counts instructions."""
    if place.engine == EngineName.TCG:
        return "icount" in place.accelerator
    return place.engine == EngineName.BOCHS


def measured(results: Iterable[TestResult]) -> tuple[tuple[Measured, ...], tuple[Place, ...]]:
    """What can be gated, cell by cell; and the places whose figures are only recorded."""
    cells: dict[str, Measured] = {}
    recorded = []
    for place, metrics in metrics_by_place(results).items():
        if not can_be_gated(place):
            recorded.append(place)
            continue
        environment = Environment.of(place)
        known = cells.get(place.cell, Measured(place.cell, environment, {}))
        double = set(known.metrics) & set(metrics)
        if double or known.environment != environment:
            raise UsageError(f"{place.cell}: measured twice, or in two ways: {sorted(double)}")
        cells[place.cell] = Measured(place.cell, environment, {**known.metrics, **metrics})
    return tuple(cells.values()), tuple(recorded)


def accept(found: Measured, commit: str | None, reason: str) -> Baseline:
    """A baseline of what was measured."""
    runs = max((len(metric.values) for metric in found.metrics.values()), default=0)
    return Baseline(
        cell=found.cell,
        commit=commit or UNKNOWN,
        reason=reason,
        runs=runs,
        environment=found.environment,
        metrics={name: Entry.of(metric) for name, metric in found.metrics.items()},
    )


def file_of(folder: Path, cell: str) -> Path:
    """Where a cell's baseline lies."""
    return folder / f"{cell}.toml"


def read(folder: Path, cell: str) -> Baseline | None:
    """A cell's baseline; None if it has none."""
    path = file_of(folder, cell)
    if not path.exists():
        return None
    return Baseline.from_toml(path.read_text("utf-8"), str(path))


def write(folder: Path, baseline: Baseline) -> Path:
    """Put a baseline into its file."""
    return write_atomically(file_of(folder, baseline.cell), baseline.to_toml())


def merge(runs: Sequence[Run]) -> Run:
    """Several runs of the same tests as one, with all values of each metric.

    Each run had a guest of its own, so the values also show what differs from boot to
    boot.  Of a test's outcomes the first bad one counts.
    """
    tests: dict[str, list[TestResult]] = {}
    for run in runs:
        for result in run.results:
            tests.setdefault(result.test, []).append(result)
    return Run(runs[-1].header, tuple(_merge_test(results) for results in tests.values()))


def _merge_test(results: Sequence[TestResult]) -> TestResult:
    told = next((r for r in results if r.message), results[-1])
    found: dict[str, list[MetricResult]] = {}
    for result in results:
        for metric in result.metrics:
            found.setdefault(metric.name, []).append(metric)
    metrics = tuple(
        MetricResult(
            name,
            same[0].unit,
            tuple(value for metric in same for value in metric.values),
            sum(metric.samples for metric in same),
        )
        for name, same in found.items()
    )
    return TestResult(
        test=told.test,
        outcome=told.outcome,
        seconds=sum(result.seconds for result in results),
        message=told.message,
        ran_on=next((r.ran_on for r in results if r.ran_on is not None), None),
        metrics=metrics,
        facts=told.facts,
        subtests=told.subtests,
        log_folder=told.log_folder,
    )
