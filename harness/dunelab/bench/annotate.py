# SPDX-License-Identifier: MIT
"""What the gate of costs found, as annotations at the lines of the baselines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from dunelab.bench import baseline
from dunelab.bench.gate import CellVerdict
from dunelab.results.github import WARNING, Annotation


def of_verdicts(
    verdicts: Sequence[CellVerdict], folder: Path, root: Path
) -> tuple[Annotation, ...]:
    """An error for each cost that moved or vanished; a warning where nothing was compared."""
    return tuple(found for verdict in verdicts for found in _of_cell(verdict, folder, root))


def _of_cell(verdict: CellVerdict, folder: Path, root: Path) -> Iterator[Annotation]:
    path = baseline.file_of(folder, verdict.cell)
    file = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    text = path.read_text("utf-8").splitlines() if path.is_file() else []

    def line_of(name: str) -> int:
        start = f'"{name}" ='
        return next((number for number, line in enumerate(text, 1) if line.startswith(start)), 1)

    for moved in verdict.moved:
        yield Annotation(file, line_of(moved.name), f"{verdict.cell}: {moved.name}", str(moved))
    for name in verdict.vanished:
        yield Annotation(file, line_of(name), f"{verdict.cell}: {name}", "it was not measured")
    rest = "\n".join(verdict.lines())
    if verdict.missing:
        yield Annotation(file, 1, f"{verdict.cell}: no baseline", rest)
    if verdict.incomparable:
        yield Annotation(file, 1, f"{verdict.cell}: not compared", rest, WARNING)
