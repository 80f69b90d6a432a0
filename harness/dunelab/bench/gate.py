# SPDX-License-Identifier: MIT
"""The gate: has a cost moved by more than its noise since the baseline?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.bench import baseline as baselines
from dunelab.bench.baseline import UNKNOWN, Baseline, Measured
from dunelab.results.schema import Run

ACCEPT = "dunelab bench --accept REASON"


@dataclass(frozen=True)
class Moved:
    """A median outside its band."""

    name: str
    unit: str
    old: float
    new: float
    band: float

    def __str__(self) -> str:
        share = f", {(self.new - self.old) / self.old:+.2%}" if self.old else ""
        word = "dearer" if self.new > self.old else "cheaper"
        return (
            f"{self.name}: {self.old:,.10g} -> {self.new:,.10g} {self.unit} "
            f"({self.new - self.old:+,.10g}{share}; band {self.band:,.10g}), {word}"
        )


@dataclass(frozen=True)
class CellVerdict:
    """What the gate found in one cell.

    ``incomparable`` says why nothing was compared: the baseline was taken on
    something else.  ``missing``: there is no baseline.
    """

    cell: str
    commits: str = ""
    compared: int = 0
    moved: tuple[Moved, ...] = ()
    new: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    incomparable: tuple[str, ...] = ()
    missing: bool = False

    @property
    def ok(self) -> bool:
        """A row that vanished fails too: nobody would notice what it cost."""
        return not (self.moved or self.vanished or self.missing)

    def lines(self) -> list[str]:
        """The verdict in words."""
        if self.missing:
            return [f"gate: {self.cell}: FAILED, there is no baseline", f"  next: {ACCEPT}"]
        if self.incomparable:
            return [
                f"gate: {self.cell}: NOT COMPARED, the baseline was taken on something else",
                *(f"  {difference}" for difference in self.incomparable),
                f"  next: {ACCEPT}",
            ]
        word = "ok" if self.ok else "FAILED"
        lines = [f"gate: {self.cell}: {word}, {self.compared} metrics compared ({self.commits})"]
        lines += [f"  moved {moved}" for moved in self.moved]
        lines += [f"  vanished {name}" for name in self.vanished]
        lines += [f"  new {name}: without a baseline yet" for name in self.new]
        if not self.ok:
            known = not self.commits.startswith(UNKNOWN)
            look = f"git log {self.commits}, then " if known else ""
            lines.append(f"  next: {look}repair it, or: {ACCEPT}")
        return lines


def check_cell(found: Measured, baseline: Baseline | None, head: str | None) -> CellVerdict:
    """Hold one cell's figures against its baseline."""
    if baseline is None:
        return CellVerdict(found.cell, missing=True)
    commits = f"{baseline.commit.removesuffix('-dirty')}..{head or 'HEAD'}"
    differences = baseline.environment.differences(found.environment)
    if differences:
        return CellVerdict(found.cell, commits, incomparable=tuple(differences))
    both = [name for name in baseline.metrics if name in found.metrics]
    moved = []
    for name in both:
        entry, metric = baseline.metrics[name], found.metrics[name]
        other_unit = entry.unit != metric.unit
        if other_unit or abs(metric.median - entry.median) > entry.band:
            moved.append(Moved(name, metric.unit, entry.median, metric.median, entry.band))
    return CellVerdict(
        cell=found.cell,
        commits=commits,
        compared=len(both),
        moved=tuple(moved),
        new=tuple(name for name in found.metrics if name not in baseline.metrics),
        vanished=tuple(name for name in baseline.metrics if name not in found.metrics),
    )


def judge(run: Run, folder: Path) -> list[CellVerdict]:
    """Hold each cell of a run that can be gated against the baselines in ``folder``."""
    cells, _ = baselines.measured(run.results)
    head = run.header.git_commit
    return [check_cell(found, baselines.read(folder, found.cell), head) for found in cells]


def check(run: Run, folder: Path) -> tuple[bool, list[str]]:
    """Hold a run against the baselines in ``folder``: whether it passes, and the text."""
    _, recorded = baselines.measured(run.results)
    verdicts = judge(run, folder)
    lines = [line for verdict in verdicts for line in verdict.lines()]
    lines += [
        f"gate: {place.cell} ({place.accelerator}): {place.unit} recorded, not gated"
        for place in recorded
    ]
    if not verdicts:
        lines.append("gate: FAILED, nothing was measured that can be gated")
    return bool(verdicts) and all(verdict.ok for verdict in verdicts), lines


def accept(run: Run, folder: Path, reason: str) -> list[Path]:
    """Write the baselines of all cells of a run that can be gated."""
    cells, _ = baselines.measured(run.results)
    commit = run.header.git_commit
    return [baselines.write(folder, baselines.accept(found, commit, reason)) for found in cells]


def wide_bands(written: Sequence[Path]) -> list[str]:
    """The metrics whose band had to be wider than the rule, for whoever accepts."""
    lines = []
    for path in written:
        base = Baseline.from_toml(path.read_text("utf-8"), str(path))
        wide = [
            f"{name} ±{entry.band:,.10g} of {entry.median:,.10g}"
            for name, entry in base.metrics.items()
            if entry.noise == "measured"
        ]
        lines.append(f"{path}: {len(base.metrics)} metrics, wider than the rule: {len(wide)}")
        lines += [f"  {text}" for text in wide]
    return lines
