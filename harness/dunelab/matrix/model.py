# SPDX-License-Identifier: MIT
"""The nouns of the matrix: a cell, how it ended, how a build ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from dunelab.spec import EngineName, Vendor


class Verdict(StrEnum):
    """How a cell ended."""

    PASS = "pass"
    FAIL = "fail"
    DEAD = "dead guest"
    INFRASTRUCTURE = "infrastructure"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class MatrixCell:
    """A kernel on one engine, with one vendor's extension.

    ``cpu_model`` is set where it is not the engine's usual one.
    """

    kernel: str
    engine: EngineName
    vendor: Vendor
    cpu_model: str | None = None

    def __str__(self) -> str:
        model = f"-{self.cpu_model}" if self.cpu_model else ""
        return f"{self.engine}-{self.vendor}-{self.kernel}{model}"


@dataclass(frozen=True)
class Break:
    """One thing a kernel has no more, has not yet, or has in another form.

    ``kind`` says which: symbol, signature, member, header, export, objtool, other.
    """

    kind: str
    name: str
    place: str
    text: str


@dataclass(frozen=True)
class BuildReport:
    """The module built for one kernel.

    ``missing`` says why there was nothing to build with; it is no verdict on the module.
    """

    kernel: str
    release: str
    seconds: float
    breaks: tuple[Break, ...] = ()
    failure: str = ""
    missing: str = ""
    evidence: str = ""

    @property
    def ok(self) -> bool:
        return not (self.failure or self.missing)

    @property
    def cause(self) -> str:
        """In one line, why it is not ok."""
        if self.missing:
            return self.missing
        if self.breaks:
            first = self.breaks[0]
            where = f" at {first.place}" if first.place else ""
            return f"does not build: {first.kind} {first.name}{where}"
        return f"does not build: {self.failure}" if self.failure else ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> BuildReport:
        return cls(**{**raw, "breaks": tuple(Break(**found) for found in raw["breaks"])})


@dataclass(frozen=True)
class CellReport:
    """One cell's row in the table.

    ``cause`` is the first failure, the splat's title, or why it was not run; of a cell that
    passed, how many tests needed a second guest.  ``host`` is the name of the machine that
    ran it.
    """

    kernel: str
    vendor: str
    verdict: Verdict
    cause: str = ""
    cell: str = ""
    release: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    evidence: str = ""
    from_before: bool = False
    host: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": str(self.verdict)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> CellReport:
        return cls(**{**raw, "verdict": Verdict(raw["verdict"])})


@dataclass(frozen=True)
class MatrixReport:
    """A whole run; ``suite`` says which tests a cell's verdict is about."""

    suite: str
    started: str
    seconds: float
    commit: str | None
    builds: tuple[BuildReport, ...]
    cells: tuple[CellReport, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "dunelab-matrix-1",
            "suite": self.suite,
            "started": self.started,
            "seconds": round(self.seconds, 1),
            "commit": self.commit,
            "builds": [build.to_json() for build in self.builds],
            "cells": [cell.to_json() for cell in self.cells],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> MatrixReport:
        return cls(
            suite=raw["suite"],
            started=raw["started"],
            seconds=raw["seconds"],
            commit=raw["commit"],
            builds=tuple(BuildReport.from_json(build) for build in raw["builds"]),
            cells=tuple(CellReport.from_json(cell) for cell in raw["cells"]),
        )


def exit_status(report: MatrixReport) -> int:
    """0: nothing failed; 1: the product did; 2: only the bench did, or a kernel was not there."""
    verdicts = {cell.verdict for cell in report.cells}
    broken = any(build.failure for build in report.builds)
    if broken or verdicts & {Verdict.FAIL, Verdict.DEAD}:
        return 1
    missing = any(build.missing for build in report.builds)
    return 2 if missing or Verdict.INFRASTRUCTURE in verdicts else 0
