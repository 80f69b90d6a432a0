# SPDX-License-Identifier: MIT
"""A plot of the ratios: one bar per row, the paper's figure as a mark on it.

The axis is logarithmic, so that twice as cheap and twice as dear are equally
long; bars to the right of 1 are cheaper than natively.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from dunelab.bench.rows import Row, Table
from dunelab.bench.table import ratio

_LABEL, _PLOT, _VALUE, _LINE, _HEAD = 330, 480, 150, 22, 62
_CHEAPER, _DEARER, _PAPER, _GRID = "#2a7f62", "#b5523b", "#1f2937", "#d1d5db"


def plot(tables: Sequence[Table]) -> str:
    """An SVG document with one chart per table that has ratios."""
    charts = [(table, [row for row in table.rows if row.ratio]) for table in tables]
    charts = [(table, rows) for table, rows in charts if rows]
    values = [value for _, rows in charts for row in rows for value in (row.ratio, row.paper)]
    low, high = decades([value for value in values if value])
    parts, top = [], 0
    for table, rows in charts:
        parts += _chart(table, rows, top, low, high)
        top += _HEAD + _LINE * len(rows) + _LINE
    width = _LABEL + _PLOT + _VALUE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{max(top, _LINE)}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten that hold all values and 1."""
    logs = [math.log10(value) for value in values] + [0.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return low, max(high, low + 1)


def _chart(table: Table, rows: Sequence[Row], top: int, low: int, high: int) -> list[str]:
    def x(value: float) -> float:
        return round(_LABEL + _PLOT * (math.log10(value) - low) / (high - low), 1)

    bottom = top + _HEAD + _LINE * len(rows)
    parts = [
        f'<text x="8" y="{top + 18}" font-weight="bold">{escape(table.place.cell)}: native/Dune, '
        f"{escape(table.place.unit)}; right of 1 is cheaper than natively</text>",
        f'<text x="8" y="{top + 34}" font-size="10">{escape(str(table.place))}</text>',
    ]
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(
            f'<line x1="{at}" y1="{top + _HEAD - 4}" x2="{at}" y2="{bottom}" '
            f'stroke="{_PAPER if power == 0 else _GRID}"/>'
            f'<text x="{at}" y="{top + _HEAD - 8}" text-anchor="middle" font-size="10">'
            f"{10.0**power:g}</text>"
        )
    for number, row in enumerate(rows):
        assert row.ratio is not None
        parts += _bar(row, row.ratio, top + _HEAD + _LINE * number, x(1.0), x(row.ratio))
        if row.paper:
            y, at = top + _HEAD + _LINE * number, x(row.paper)
            parts.append(
                f'<line class="paper" x1="{at}" y1="{y + 1}" x2="{at}" y2="{y + _LINE - 3}" '
                f'stroke="{_PAPER}" stroke-width="3"/>'
            )
    return parts


def _bar(row: Row, value: float, y: int, one: float, end: float) -> list[str]:
    paper = f" (paper {ratio(row.paper)})" if row.paper else ""
    return [
        f'<text x="{_LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(row.title)}</text>',
        f'<rect class="bar" x="{min(one, end)}" y="{y + 4}" width="{round(abs(end - one), 1)}" '
        f'height="{_LINE - 9}" fill="{_CHEAPER if value >= 1 else _DEARER}"/>',
        f'<text x="{_LABEL + _PLOT + 8}" y="{y + 15}">{ratio(value)}{paper}</text>',
    ]
