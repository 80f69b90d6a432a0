# SPDX-License-Identifier: MIT
"""Which cells to run when there is not time for all, as pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dunelab.errors import UsageError
from dunelab.matrix.plan import IBT_MODEL, Planned
from dunelab.spec import EngineName

# Seconds of a cell that was never run here, by engine, of the suite "run".
GUESSES = {EngineName.KVM: 60.0, EngineName.TCG: 150.0, EngineName.BOCHS: 400.0}

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smh]?)\Z")
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

# What a cell is worth that is the first to show it.
_VENDOR, _EDGE, _VERSION, _IBT, _FLAVOUR, _AGAIN = 8.0, 8.0, 4.0, 4.0, 3.0, 0.5


@dataclass(frozen=True)
class Choice:
    """What is run, the most telling cell first, and what is not."""

    chosen: tuple[Planned, ...]
    left_out: tuple[Planned, ...]


def parse_duration(text: str) -> float:
    """``10m``, ``90s``, ``1.5h`` in seconds."""
    match = _DURATION.match(text.strip())
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"'{text}' is not a time such as 10m, 90s or 1.5h")
    return float(match[1]) * _UNITS[match[2]]


def choose(
    planned: Sequence[Planned],
    core_seconds: float | None,
    estimate: Callable[[Planned], float],
) -> Choice:
    """Cells that fit into a budget and cover as much as they can.

    One after the other: that which shows most that is new per second, of those that
    still fit.  New is a vendor; the oldest and the newest kernel, then any other
    version, on a vendor; IBT; a flavour.  ``None`` is no limit.
    """
    pending = list(planned)
    if core_seconds is None:
        return Choice(tuple(pending), ())
    versions = [item.entry.version for item in planned]
    edges = {min(versions), max(versions)} if versions else set()
    shown: set[object] = set()
    chosen: list[Planned] = []
    left = core_seconds

    def worth(item: Planned) -> float:
        fresh = [value for what, value in _shows(item, edges) if what not in shown]
        return sum(fresh, _AGAIN) / estimate(item)

    while fitting := [item for item in pending if estimate(item) <= left]:
        best = max(fitting, key=worth)
        pending.remove(best)
        chosen.append(best)
        shown.update(what for what, _value in _shows(best, edges))
        left -= estimate(best)
    return Choice(tuple(chosen), tuple(pending))


def _shows(item: Planned, edges: set[tuple[int, ...]]) -> list[tuple[object, float]]:
    cell, entry = item.cell, item.entry
    found: list[tuple[object, float]] = [
        (cell.vendor, _VENDOR),
        ((entry.version, cell.vendor), _EDGE if entry.version in edges else _VERSION),
        (entry.flavour, _FLAVOUR),
    ]
    if cell.cpu_model == IBT_MODEL:
        found.append(("ibt", _IBT))
    return found
