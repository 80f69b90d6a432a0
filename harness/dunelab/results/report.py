# SPDX-License-Identifier: MIT
"""Write ``results.json`` and print the summary table.

One process writes (the xdist controller); it writes to a neighbour and renames,
so that a reader never sees half a file.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dunelab.results.schema import Outcome, Run, RunHeader, TestResult, validate

RESULTS_FILE = "results.json"


def make_header(started: str, seconds: float, options: Sequence[str], root: Path) -> RunHeader:
    """Look at the host once; ``root`` is where the source tree lies."""
    return RunHeader(
        tool_version=metadata.version("dunelab"),
        git_commit=git_commit(root),
        started=started,
        seconds=round(seconds, 3),
        host_cores=len(os.sched_getaffinity(0)),
        host_memory_mib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        host_cpu=_cpu_name(Path("/proc/cpuinfo")),
        options=tuple(options),
    )


def git_commit(root: Path) -> str | None:
    """The tree's commit, marked if it was changed; None outside of git."""
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu_name(cpuinfo: Path) -> str:
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return "unknown"
    names = (line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line)
    return next(names, "unknown")


def write_results(run: Run, folder: Path) -> Path:
    """Check the run against the schema and put it into ``folder``."""
    document = run.to_json()
    validate(document)
    return write_atomically(folder / RESULTS_FILE, json.dumps(document, indent=2) + "\n")


def write_atomically(path: Path, text: str) -> Path:
    """Replace ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, "utf-8")
    part.replace(path)
    return path


def read_results(path: Path) -> Run:
    """Read a document back, checked."""
    document = json.loads(path.read_text("utf-8"))
    validate(document)
    return Run.from_json(document)


@dataclass(frozen=True)
class CellSummary:
    """The counts of one cell."""

    cell: str
    accelerator: str
    counts: dict[Outcome, int]
    boots: tuple[float, ...]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


NO_GUEST = "no guest"


def summarise(results: Iterable[TestResult]) -> tuple[CellSummary, ...]:
    """Counts per cell, in the order the cells first appear, guestless last."""
    groups: dict[str, list[TestResult]] = {}
    for result in results:
        groups.setdefault(result.ran_on.cell if result.ran_on else NO_GUEST, []).append(result)
    ordered = sorted(groups.items(), key=lambda entry: entry[0] == NO_GUEST)
    summaries = []
    for cell, members in ordered:
        ran_on = [member.ran_on for member in members if member.ran_on is not None]
        summaries.append(
            CellSummary(
                cell=cell,
                accelerator=", ".join(dict.fromkeys(r.accelerator for r in ran_on)),
                counts={
                    outcome: sum(member.outcome is outcome for member in members)
                    for outcome in Outcome
                },
                boots=tuple(dict.fromkeys(r.boot_seconds for r in ran_on)),
            )
        )
    return tuple(summaries)


def cell_table(summaries: Sequence[CellSummary]) -> Table:
    """One row per cell."""
    table = Table(title="cells", title_justify="left")
    for name in ("cell", "accelerator"):
        table.add_column(name, no_wrap=True)
    for name in ("passed", "failed", "guest died", "infra", "skipped", "boot s"):
        table.add_column(name, justify="right")
    for summary in summaries:
        counts = [str(summary.counts[outcome]) for outcome in Outcome]
        boots = (
            f"{min(summary.boots):.1f}-{max(summary.boots):.1f}"
            if len(summary.boots) > 1
            else "".join(f"{boot:.1f}" for boot in summary.boots)
        )
        table.add_row(summary.cell, summary.accelerator, *counts, boots)
    return table


def metric_table(results: Sequence[TestResult]) -> Table | None:
    """One row per metric; a column per cell would mix ticks with cycles."""
    measured = [result for result in results if result.metrics and result.ran_on is not None]
    if not measured:
        return None
    table = Table(title="metrics", title_justify="left")
    for name in ("cell", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("median", "min", "max", "spread", "n"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for result in sorted(measured, key=lambda r: r.ran_on.cell if r.ran_on else ""):
        for metric in result.metrics:
            table.add_row(
                result.ran_on.cell if result.ran_on else "",
                metric.name,
                f"{metric.median:,.10g}",
                f"{metric.low:,.10g}",
                f"{metric.high:,.10g}",
                f"{metric.spread:.2%}",
                str(metric.samples),
                metric.unit,
            )
    return table


def render(*tables: Table | None, width: int = 100, colour: bool = False) -> str:
    """Tables as text, for a terminal that is somebody else's."""
    console = Console(file=io.StringIO(), width=width, force_terminal=colour, color_system="auto")
    with console.capture() as capture:
        for table in tables:
            if table is not None:
                console.print(table)
    return capture.get()
