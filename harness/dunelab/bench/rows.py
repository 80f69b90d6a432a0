# SPDX-License-Identifier: MIT
"""From metrics to rows: native, Dune mode, exits, ratio, and the paper's ratio.

``rows.toml`` says which metrics belong together where their names do not.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from dunelab.errors import UsageError
from dunelab.results.schema import MetricResult, RanOn, TestResult

NATIVE, DUNE, EXITS = "_native", "_dune", "_exits"
_KEYS = {"title", "dune", "native", "exits", "paper"}


@dataclass(frozen=True)
class RowSpec:
    """One entry of the table file."""

    title: str
    dune: str
    native: str | None = None
    exits: str = ""
    paper: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table; ``paper`` is the paper's ratio."""

    title: str
    dune: MetricResult | None
    native: MetricResult | None = None
    exits: MetricResult | None = None
    paper: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times cheaper than natively; below 1 it is dearer."""
        if self.dune is None or self.native is None or not self.dune.median:
            return None
        return self.native.median / self.dune.median

    @property
    def spread(self) -> float:
        """The wider spread of the two, over the runs."""
        return max((m.spread for m in (self.dune, self.native) if m is not None), default=0.0)

    @property
    def unit(self) -> str:
        """What the figures count."""
        return next((m.unit for m in (self.dune, self.native) if m is not None), "")


@dataclass(frozen=True)
class Place:
    """All that one table's figures were measured on."""

    cell: str
    engine: str
    accelerator: str
    engine_version: str
    vendor: str
    cpu_model: str
    cpus: int
    kernel_release: str
    kernel_package: str
    compiler: str
    unit: str
    module_build_id: str | None
    libdune_build_id: str | None

    @classmethod
    def of(cls, ran_on: RanOn) -> Place:
        """The part of a result's origin that is the same for a whole table."""
        return cls(**{name: getattr(ran_on, name) for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        short = [(build or "none")[:12] for build in (self.module_build_id, self.libdune_build_id)]
        return (
            f"{self.cell}: {self.engine} {self.engine_version} ({self.accelerator}), {self.vendor} "
            f"{self.cpu_model}, CPUs: {self.cpus}, kernel {self.kernel_release}, "
            f"dune.ko {short[0]}, libdune {short[1]}"
        )


@dataclass(frozen=True)
class Table:
    """The rows of one place."""

    place: Place
    rows: tuple[Row, ...]


def parse_specs(raw: Mapping[str, Any]) -> tuple[RowSpec, ...]:
    """The entries of a table file, checked."""
    specs = []
    for entry in raw.get("row", []):
        unknown = set(entry) - _KEYS
        if unknown or not {"title", "dune"} <= set(entry):
            raise UsageError(f"rows.toml: bad entry {entry}: title and dune, no {sorted(unknown)}")
        paper = entry.get("paper")
        specs.append(
            RowSpec(
                title=entry["title"],
                dune=entry["dune"],
                native=entry.get("native"),
                exits=entry.get("exits", entry["dune"] + EXITS),
                paper=paper["native"] / paper["dune"] if paper else None,
            )
        )
    return tuple(specs)


def read_specs() -> tuple[RowSpec, ...]:
    """The table file of this package."""
    return parse_specs(_table_file())


def _table_file() -> dict[str, Any]:
    text = resources.files("dunelab.bench").joinpath("rows.toml").read_text("utf-8")
    return tomllib.loads(text)


def suite_programs(name: str) -> str:
    """Which programs of tests/bench a suite is, for pytest's -k."""
    suites: dict[str, dict[str, str]] = _table_file().get("suite", {})
    if name not in suites:
        raise UsageError(f"there is no suite {name!r} of costs, only: {', '.join(sorted(suites))}")
    return suites[name]["programs"]


def metrics_by_place(results: Iterable[TestResult]) -> dict[Place, dict[str, MetricResult]]:
    """All metrics, by what they were measured on and by name."""
    found: dict[Place, dict[str, MetricResult]] = {}
    for result in results:
        if result.ran_on is None or not result.metrics:
            continue
        names = found.setdefault(Place.of(result.ran_on), {})
        for metric in result.metrics:
            if metric.name in names:
                raise UsageError(
                    f"two programs measure {metric.name}; the second is {result.test}: "
                    "give it another name"
                )
            names[metric.name] = metric
    return found


def tables(results: Iterable[TestResult], specs: Sequence[RowSpec]) -> tuple[Table, ...]:
    """One table per place, in the order of the results."""
    places = metrics_by_place(results)
    return tuple(Table(place, rows_of(metrics, specs)) for place, metrics in places.items())


def rows_of(metrics: Mapping[str, MetricResult], specs: Sequence[RowSpec]) -> tuple[Row, ...]:
    """Rows for all metrics: those of the entries, the pairs by name, and what is left."""
    rows: list[Row] = []
    used: set[str | None] = set()
    for spec in [*specs, *_pairs(metrics)]:
        named = [name for name in (spec.dune, spec.native, spec.exits) if name in metrics]
        native = metrics.get(spec.native or "")
        # A comparison needs both; what there is of it is printed below.
        if spec.dune not in metrics or (spec.native is not None and native is None):
            continue
        if not used.issuperset({spec.dune, spec.native} - {None}) or spec in specs:
            rows.append(
                Row(spec.title, metrics[spec.dune], native, metrics.get(spec.exits), spec.paper)
            )
        used.update(named)
    for name, metric in metrics.items():
        base = name.removesuffix(EXITS)
        if name in used or (base != name and base in metrics):
            continue
        exits = metrics.get(name + EXITS)
        if name.endswith(NATIVE):
            rows.append(Row(name.removesuffix(NATIVE), None, metric))
        else:
            rows.append(Row(name.removesuffix(DUNE), metric, None, exits))
    return tuple(rows)


def _pairs(metrics: Mapping[str, MetricResult]) -> list[RowSpec]:
    return [
        RowSpec(base, base + DUNE, base + NATIVE, base + DUNE + EXITS)
        for base in (name.removesuffix(NATIVE) for name in metrics if name.endswith(NATIVE))
        if base + DUNE in metrics
    ]
