# SPDX-License-Identifier: MIT
"""The tables of ``dunelab bench`` as text."""

from __future__ import annotations

from rich.table import Table as TextTable

from dunelab.bench.rows import Row, Table
from dunelab.results.schema import MetricResult

NONE = "-"


def text_table(table: Table) -> TextTable:
    """One table per place: its figures have one unit, which its title says."""
    text = TextTable(title=f"{table.place}; {table.place.unit}", title_justify="left")
    text.add_column("row")
    for name in ("native", "Dune", "spread", "exits", "native/Dune", "paper"):
        text.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        text.add_row(*_cells(row, table.place.unit))
    return text


def _cells(row: Row, unit: str) -> tuple[str, ...]:
    title = row.title if row.unit == unit else f"{row.title} ({row.unit})"
    return (
        title,
        figure(row.native),
        figure(row.dune),
        f"{row.spread:.2%}",
        figure(row.exits),
        ratio(row.ratio),
        ratio(row.paper),
    )


def figure(metric: MetricResult | None) -> str:
    """A median."""
    return NONE if metric is None else f"{metric.median:,.10g}"


def ratio(value: float | None) -> str:
    """Three digits that matter."""
    return NONE if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
