# SPDX-License-Identifier: MIT
"""What of a run is done already, so that an interrupted one can go on.

Each finished cell leaves its report beside its evidence, with a key made of all that
could change its result.  ``unfinished`` in the run's folder says that the run before
did not come to its table: then, and only then, are reports with the right key taken over.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from dunelab.matrix.model import CellReport, MatrixCell, MatrixReport, Verdict
from dunelab.results.report import RESULTS_FILE, read_results, write_atomically
from dunelab.results.schema import Run

CELLS = "cells"
REPORT = "report.json"
UNFINISHED = "unfinished"
DOCUMENT = "matrix.json"


class Record:
    """The folder of a matrix run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, *, afresh: bool) -> bool:
        """Open a run; whether it goes on with one that was interrupted."""
        marker = self.folder / UNFINISHED
        goes_on = marker.exists() and not afresh
        if not goes_on:
            shutil.rmtree(self.folder / CELLS, ignore_errors=True)
        write_atomically(marker, "this run did not come to its table\n")
        return goes_on

    def end(self) -> None:
        """The table is written: the next run is a new one."""
        (self.folder / UNFINISHED).unlink(missing_ok=True)

    def cell_folder(self, cell: MatrixCell) -> Path:
        """Where a cell's evidence goes."""
        return self.folder / CELLS / str(cell)

    def keep(self, cell: MatrixCell, key: str, report: CellReport) -> None:
        """Leave a finished cell's report; one that the bench failed on is run again."""
        if report.verdict is not Verdict.INFRASTRUCTURE:
            document = {"key": key, "report": report.to_json()}
            write_atomically(self.cell_folder(cell) / REPORT, json.dumps(document) + "\n")

    def done(self, cell: MatrixCell, key: str) -> CellReport | None:
        """A cell's report of the interrupted run, if it would be the same now."""
        try:
            document = json.loads((self.cell_folder(cell) / REPORT).read_text("utf-8"))
            if document["key"] != key:
                return None
            return CellReport.from_json({**document["report"], "from_before": True})
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


def read_report(path: Path) -> MatrixReport:
    """A run's document; ``path`` is it or its folder."""
    file = path / DOCUMENT if path.is_dir() else path
    return MatrixReport.from_json(json.loads(file.read_text("utf-8")))


def cell_runs(folders: Sequence[Path]) -> dict[str, Run]:
    """What the tests of each cell said, as far as the evidence lies below ``folders``."""
    return {
        file.parent.name: read_results(file)
        for folder in folders
        for file in sorted(folder.glob(f"{CELLS}/*/{RESULTS_FILE}"))
    }


def merge(reports: list[MatrixReport]) -> MatrixReport:
    """One run out of several; a cell that was run wins over one that was not."""
    cells: dict[tuple[str, str, str], CellReport] = {}
    for report in reports:
        for cell in report.cells:
            # Only who ran a cell knows which it was.
            key = (cell.kernel, cell.vendor, cell.cell)
            known = cells.get(key)
            if known is None or known.verdict is Verdict.NOT_RUN:
                cells[key] = cell
    builds = {build.kernel: build for report in reports for build in report.builds}
    first = reports[0]
    # One that only built says nothing about a suite.
    ran = [report for report in reports if any(cell.cell for cell in report.cells)]
    return MatrixReport(
        suite=", ".join(dict.fromkeys(report.suite for report in ran or reports)),
        started=min(report.started for report in reports),
        seconds=max(report.seconds for report in reports),
        commit=first.commit,
        builds=tuple(builds.values()),
        cells=tuple(cells.values()),
    )
