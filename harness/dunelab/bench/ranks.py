# SPDX-License-Identifier: MIT
"""Comparing cycles of one run, A against B, by their ranks.

Cycles of hardware have no fixed noise band: frequency, caches and neighbours
move them from day to day.  Samples of two builds, taken in turns in one run, see
the same day; the rank-sum test (Mann and Whitney) asks whether one lot is
greater than the other, and assumes no distribution.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from dunelab.errors import UsageError

# Two lots of four: the least that can reach 5 % two-sided (2 of 70 orders).
LEAST_SAMPLES = 4
SIGNIFICANT = 0.01
# Up to so many orders all of them are counted; above, the normal approximation is close.
_EXACT_ORDERS = 200_000


@dataclass(frozen=True)
class Comparison:
    """What the ranks of two lots of samples say."""

    median_a: float
    median_b: float
    p: float

    @property
    def change(self) -> float:
        """B against A, as a fraction of A."""
        return (self.median_b - self.median_a) / self.median_a if self.median_a else math.inf

    @property
    def differs(self) -> bool:
        """Whether chance explains the order of the samples badly enough."""
        return self.p < SIGNIFICANT


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """The two-sided rank-sum test of two lots of samples."""
    if min(len(a), len(b)) < LEAST_SAMPLES:
        raise UsageError(
            f"{len(a)} and {len(b)} samples are too few to compare: {LEAST_SAMPLES} each or more"
        )
    p = p_value(ranks([*a, *b]), len(a))
    return Comparison(statistics.median(a), statistics.median(b), p)


def ranks(values: Sequence[float]) -> list[float]:
    """The rank of each value from 1 up; equal values share their mean rank."""
    order = sorted(values)
    first: dict[float, int] = {}
    count: dict[float, int] = {}
    for place, value in enumerate(order, start=1):
        first.setdefault(value, place)
        count[value] = count.get(value, 0) + 1
    return [first[value] + (count[value] - 1) / 2 for value in values]


def p_value(all_ranks: Sequence[float], n: int) -> float:
    """How often chance alone puts the first ``n`` ranks' sum as far from the middle."""
    total = len(all_ranks)
    middle = n * (total + 1) / 2
    away = abs(sum(all_ranks[:n]) - middle)
    if math.comb(total, n) <= _EXACT_ORDERS:
        hits = sum(
            abs(sum(chosen) - middle) >= away - 1e-9 for chosen in combinations(all_ranks, n)
        )
        return hits / math.comb(total, n)
    mean = (total + 1) / 2
    # With ties the ranks' own variance is smaller; this holds for both cases.
    variance = sum((rank - mean) ** 2 for rank in all_ranks) / (total - 1)
    deviation = math.sqrt(variance * n * (total - n) / total)
    if deviation == 0:
        return 1.0
    return math.erfc(max(away - 0.5, 0.0) / deviation / math.sqrt(2))
