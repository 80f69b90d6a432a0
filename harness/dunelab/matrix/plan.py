# SPDX-License-Identifier: MIT
"""Which cells there are, and which of them cannot be: pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dunelab.images.kernels import PLAIN, KernelEntry, Lost
from dunelab.matrix.model import CellReport, MatrixCell, Verdict
from dunelab.pytest_support.options import ENGINE_VENDORS
from dunelab.spec import EngineName, Vendor

IBT_MODEL = "tigerlake"
"""Bochs' model of a CPU with indirect branch tracking."""

IBT_SINCE = (6, 12)
"""Debian's kernels have CONFIG_X86_KERNEL_IBT from this version on."""


@dataclass(frozen=True)
class Planned:
    """A cell, and why it cannot be run if so."""

    cell: MatrixCell
    entry: KernelEntry
    refused: str = ""


def plan_cells(
    entries: Iterable[KernelEntry],
    engines: Mapping[Vendor, EngineName],
) -> tuple[Planned, ...]:
    """One cell per kernel and vendor, the oldest kernel first.

    The VT-x cell of a plain kernel with IBT is run on a CPU that has it; those of
    the other flavours of the same version are not, so that both ways are covered.
    """
    ordered = sorted(entries, key=lambda entry: (entry.version, entry.id))
    return tuple(
        Planned(cell, entry, refusal(cell, entry))
        for entry in ordered
        for vendor, engine in engines.items()
        for cell in [MatrixCell(entry.id, engine, vendor, cpu_model(entry, engine, vendor))]
    )


def cpu_model(entry: KernelEntry, engine: EngineName, vendor: Vendor) -> str | None:
    """The CPU model of a cell, where it is not the engine's usual one."""
    on_bochs = engine is EngineName.BOCHS and vendor is Vendor.INTEL
    if on_bochs and entry.flavour == PLAIN and entry.version >= IBT_SINCE:
        return IBT_MODEL
    return None


def refusal(cell: MatrixCell, entry: KernelEntry) -> str:
    """Why a cell cannot be; empty if it can."""
    if cell.vendor not in ENGINE_VENDORS[cell.engine]:
        return f"{cell.engine} has no {cell.vendor}"
    if cell.engine is EngineName.BOCHS and entry.flavour.startswith("cloud-"):
        return "cloud kernels have no driver for e1000, the only network card of Bochs"
    return ""


def lost_rows(lost: Sequence[Lost]) -> tuple[CellReport, ...]:
    """Rows for the kernels that nothing can be built for, whatever the vendor."""
    return tuple(
        CellReport(series, "both", Verdict.NOT_RUN, group.reason)
        for group in lost
        for series in group.series
    )


def plan_lines(planned: Sequence[Planned], suite: str) -> str:
    """A line per cell, kernel, vendor and suite: for what gives work to other machines."""
    return "".join(f"{item.cell.kernel} {item.cell.vendor} {suite}\n" for item in planned)


def github_plan(planned: Sequence[Planned], suite: str) -> dict[str, Any]:
    """A dynamic matrix for GitHub Actions: ``strategy.matrix`` of a later job.

    The engine is chosen where the job runs: KVM if that runner nests.
    """
    return {
        "include": [
            {
                "name": f"{item.cell.kernel} {item.cell.vendor}",
                "kernel": item.cell.kernel,
                "vendor": str(item.cell.vendor),
                "suite": suite,
                "command": f"dunelab matrix --kernel {item.cell.kernel} "
                f"--vendor {item.cell.vendor} --suite {suite}",
            }
            for item in planned
        ]
    }
