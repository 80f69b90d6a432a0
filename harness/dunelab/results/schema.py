# SPDX-License-Identifier: MIT
"""The nouns of ``results.json``: what a run, a result and a metric are.

Frozen values with a plain-JSON form each (``to_json`` / ``from_json``), which
is also how an xdist worker sends them to its controller.  The document's
shape is fixed by ``schema.json`` beside this file (JSON Schema 2020-12);
``validate`` holds a document against it.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import jsonschema

from dunelab.errors import InfrastructureError
from dunelab.results.ktap import Metric, MetricUnit
from dunelab.spec import EngineFacts, ImageKind, Unit

SCHEMA_ID = "dunelab-results-1"


class Outcome(StrEnum):
    """How a test ended; the four bad ones are four different people's work."""

    PASSED = "passed"
    FAILED = "failed"
    GUEST_DIED = "guest_died"
    INFRASTRUCTURE = "infrastructure"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class RanOn:
    """What a result was really obtained on."""

    cell: str
    engine: str
    accelerator: str
    engine_version: str
    vendor: str
    cpu_model: str
    unit: str
    kernel: str
    kernel_release: str
    module_build_id: str | None
    libdune_build_id: str | None
    cpus: int
    image: str
    boot_seconds: float
    kernel_package: str = ""
    compiler: str = ""

    @classmethod
    def of(
        cls,
        facts: EngineFacts,
        *,
        cell: str,
        kernel: str,
        release: str,
        module_build_id: str | None,
        libdune_build_id: str | None,
        cpus: int,
        image: ImageKind,
        boot_seconds: float,
        kernel_package: str = "",
        compiler: str = "",
    ) -> RanOn:
        """From what the engine reports about itself and the builds' ids."""
        return cls(
            cell=cell,
            engine=str(facts.engine),
            accelerator=facts.accelerator,
            engine_version=facts.version,
            vendor=str(facts.vendor),
            cpu_model=facts.cpu_model,
            unit=str(facts.unit),
            kernel=kernel,
            kernel_release=release,
            module_build_id=module_build_id,
            libdune_build_id=libdune_build_id,
            cpus=cpus,
            image=str(image),
            boot_seconds=round(boot_seconds, 3),
            kernel_package=kernel_package,
            compiler=compiler,
        )


@dataclass(frozen=True)
class MetricResult:
    """One measured quantity over all runs of a test."""

    name: str
    unit: str
    values: tuple[float, ...]
    samples: int

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    @property
    def spread(self) -> float:
        """(max - min) / median over the runs; 0 for a single run."""
        width = self.high - self.low
        if width == 0:
            return 0.0
        return width / abs(self.median) if self.median else float(width)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": self.low,
            "max": self.high,
            "spread": round(self.spread, 6),
            "n": self.samples,
            "runs": list(self.values),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MetricResult:
        return cls(raw["name"], raw["unit"], tuple(raw["runs"]), raw["n"])


def merge_runs(runs: Sequence[Sequence[Metric]], unit: Unit) -> tuple[MetricResult, ...]:
    """Bring the metrics of repeated runs together, in first-seen order.

    A program cannot know whether its time stamp counter counts instructions or
    cycles; it says ``ticks`` and the engine's unit replaces the word here.
    """
    found: dict[str, list[Metric]] = {}
    for run in runs:
        for metric in run:
            found.setdefault(metric.name, []).append(metric)
    return tuple(
        MetricResult(
            name=name,
            unit=str(unit) if metrics[0].unit is MetricUnit.TICKS else str(metrics[0].unit),
            values=tuple(metric.value for metric in metrics),
            samples=sum(metric.samples for metric in metrics),
        )
        for name, metrics in found.items()
    )


@dataclass(frozen=True)
class TestResult:
    """One test's end, with everything needed to judge it later.

    ``again`` says why it, or its guest, was started a second time; empty for all but
    the few of ``dunelab.machine.stale``.
    """

    __test__ = False

    test: str
    outcome: Outcome
    seconds: float
    message: str = ""
    ran_on: RanOn | None = None
    metrics: tuple[MetricResult, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)
    subtests: tuple[tuple[str, str], ...] = ()
    log_folder: str | None = None
    place: str = ""
    again: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "test": self.test,
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 3),
            "message": self.message,
            "ran_on": asdict(self.ran_on) if self.ran_on is not None else None,
            "metrics": [metric.to_json() for metric in self.metrics],
            "facts": dict(self.facts),
            "subtests": [{"name": name, "verdict": word} for name, word in self.subtests],
            "log_folder": self.log_folder,
            "place": self.place,
            "again": self.again,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TestResult:
        ran_on = raw["ran_on"]
        return cls(
            test=raw["test"],
            outcome=Outcome(raw["outcome"]),
            seconds=raw["seconds"],
            message=raw["message"],
            ran_on=RanOn(**ran_on) if ran_on is not None else None,
            metrics=tuple(MetricResult.from_json(metric) for metric in raw["metrics"]),
            facts=dict(raw["facts"]),
            subtests=tuple((entry["name"], entry["verdict"]) for entry in raw["subtests"]),
            log_folder=raw["log_folder"],
            place=raw.get("place", ""),
            again=raw.get("again", ""),
        )


@dataclass(frozen=True)
class RunHeader:
    """What the run was: whose bench, on what host, asked for how."""

    tool_version: str
    git_commit: str | None
    started: str
    seconds: float
    host_cores: int
    host_memory_mib: int
    host_cpu: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A whole ``results.json``."""

    header: RunHeader
    results: tuple[TestResult, ...]

    def to_json(self) -> dict[str, Any]:
        header = asdict(self.header)
        header["options"] = list(self.header.options)
        return {
            "schema": SCHEMA_ID,
            "run": header,
            "results": [result.to_json() for result in self.results],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Run:
        header = dict(raw["run"])
        header["options"] = tuple(header["options"])
        return cls(
            RunHeader(**header),
            tuple(TestResult.from_json(result) for result in raw["results"]),
        )


@cache
def load_schema() -> Mapping[str, Any]:
    """The JSON Schema shipped with the package."""
    text = resources.files("dunelab.results").joinpath("schema.json").read_text("utf-8")
    loaded: Mapping[str, Any] = json.loads(text)
    return loaded


def validate(document: Mapping[str, Any]) -> None:
    """Hold a document against the schema; a mismatch is a defect of the bench."""
    validator = jsonschema.Draft202012Validator(load_schema())
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    if error is not None:
        where = "/".join(str(part) for part in error.absolute_path) or "(top)"
        raise InfrastructureError(
            f"results do not fit {SCHEMA_ID} at {where}: {error.message}",
            next_command="pytest harness/unit -k schema",
        )
