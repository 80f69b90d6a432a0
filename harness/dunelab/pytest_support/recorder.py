# SPDX-License-Identifier: MIT
"""From pytest's three phases of a test to one ``TestResult``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dunelab.errors import DunelabError, GuestDied, InfrastructureError, UsageError
from dunelab.results.report import write_atomically
from dunelab.results.schema import MetricResult, Outcome, RanOn, TestResult

LOGS = "logs"
_LONGEST_NAME = 120


def outcome_of(error: BaseException) -> Outcome:
    """Whose fault an exception is."""
    if isinstance(error, GuestDied):
        return Outcome.GUEST_DIED
    if isinstance(error, InfrastructureError | UsageError):
        return Outcome.INFRASTRUCTURE
    return Outcome.FAILED


def headline(error: BaseException) -> str:
    """The failure's text with its family in front, notes behind."""
    text = str(error) if isinstance(error, DunelabError) else f"{type(error).__name__}: {error}"
    outcome = outcome_of(error)
    if outcome is Outcome.GUEST_DIED:
        text = f"guest died: {text}"
    elif outcome is Outcome.INFRASTRUCTURE:
        text = f"infrastructure: {text}"
    return "\n".join([text, *getattr(error, "__notes__", ())])


def plain_id(nodeid: str) -> str:
    """pytest's node id without the ``@group`` that xdist appends."""
    return re.sub(r"@[^@\]/]*$", "", nodeid)


def folder_name(nodeid: str) -> str:
    """A folder for a test's logs: legible, unique, legal everywhere."""
    path, _, test = plain_id(nodeid).partition("::")
    stem = Path(path).stem
    name = re.sub(r"[^\w.=+\[\]-]+", "_", f"{stem}.{test}" if test else stem)
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(nodeid.encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name


@dataclass
class Record:
    """What one test gathers while it runs."""

    test: str
    ran_on: RanOn | None = None
    metrics: tuple[MetricResult, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    subtests: tuple[tuple[str, str], ...] = ()
    logs: dict[str, str] = field(default_factory=dict)
    log_folder: Path | None = None
    seconds: float = 0.0
    outcome: Outcome = Outcome.PASSED
    message: str = ""
    place: str = ""
    again: str = ""

    def phase(self, outcome: Outcome, seconds: float, message: str = "", place: str = "") -> None:
        """Take a phase's end in; the first bad one decides."""
        self.seconds += seconds
        if self.outcome is Outcome.PASSED and outcome is not Outcome.PASSED:
            self.outcome = outcome
            self.message = message
            self.place = place

    def result(self, root: Path) -> TestResult:
        """The finished result; log folders are named relative to ``root``."""
        return TestResult(
            test=self.test,
            outcome=self.outcome,
            seconds=self.seconds,
            message=self.message,
            ran_on=self.ran_on,
            metrics=self.metrics,
            facts=self.facts,
            subtests=self.subtests,
            log_folder=str(self.log_folder.relative_to(root)) if self.log_folder else None,
            place=self.place,
            again=self.again,
        )

    def properties(self) -> list[tuple[str, str]]:
        """The same for people who read JUnit XML."""
        pairs: list[tuple[str, str]] = []
        if self.ran_on is not None:
            on = self.ran_on
            pairs = [
                ("engine", on.engine),
                ("accelerator", on.accelerator),
                ("vendor", on.vendor),
                ("cpu_model", on.cpu_model),
                ("kernel_release", on.kernel_release),
                ("module_build_id", on.module_build_id or ""),
                ("libdune_build_id", on.libdune_build_id or ""),
                ("unit", on.unit),
            ]
        pairs += [(f"metric.{m.name}", f"{m.median:g} {m.unit}") for m in self.metrics]
        return pairs


def write_logs(folder: Path, logs: Mapping[str, str]) -> None:
    """Put each non-empty text into its file."""
    for name, text in logs.items():
        if text:
            write_atomically(folder / name, text)
