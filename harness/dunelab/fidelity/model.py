# SPDX-License-Identifier: MIT
"""The nouns of a comparison: a test's end, a unit's run, a difference.

Frozen values; nothing here does I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

SCHEMA_ID = "dunelab-fidelity-1"
WHOLE = "(whole)"
"""The name of a unit's own end among its tests."""


class How(StrEnum):
    """The two ways a unit is run."""

    NATIVE = "native"
    DUNE = "dune"


class End(StrEnum):
    """How a test ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    EXPECTED_FAILURE = "expected failure"
    UNEXPECTED_SUCCESS = "unexpected success"
    HUNG = "hung"
    CRASHED = "crashed"
    GUEST_DIED = "guest died"
    ABSENT = "absent"


@dataclass(frozen=True)
class Test:
    """One test's end; ``why`` is there for all but ``ok``."""

    __test__ = False

    name: str
    end: End
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "end": str(self.end), "why": self.why}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Test:
        return cls(raw["name"], End(raw["end"]), raw["why"])


@dataclass(frozen=True)
class UnitRun:
    """A unit run once, one way."""

    suite: str
    unit: str
    how: How
    seconds: float
    tests: tuple[Test, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many tests ended how; the unit's own end is no test."""
        return dict(sorted(Counter(str(t.end) for t in self.tests if t.name != WHOLE).items()))

    def end_of(self, name: str) -> Test:
        """A test's end; a test that this run does not have is absent."""
        return next((t for t in self.tests if t.name == name), Test(name, End.ABSENT))

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "unit": self.unit,
            "how": str(self.how),
            "seconds": round(self.seconds, 3),
            "tests": [test.to_json() for test in self.tests],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> UnitRun:
        return cls(
            raw["suite"],
            raw["unit"],
            How(raw["how"]),
            raw["seconds"],
            tuple(Test.from_json(test) for test in raw["tests"]),
        )


@dataclass(frozen=True)
class Difference:
    """A test that ended differently.  Steady: in every try."""

    suite: str
    unit: str
    native: Test
    dune: Test
    steady: bool

    @property
    def test(self) -> str:
        return self.native.name

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "unit": self.unit,
            "test": self.test,
            "steady": self.steady,
            "native": {"end": str(self.native.end), "why": self.native.why},
            "dune": {"end": str(self.dune.end), "why": self.dune.why},
        }


@dataclass(frozen=True)
class Pair:
    """A unit run natively and in Dune mode, once each."""

    native: UnitRun
    dune: UnitRun

    @property
    def differing(self) -> tuple[str, ...]:
        """The names of tests that ended differently, in the native run's order."""
        names = dict.fromkeys(t.name for run in (self.native, self.dune) for t in run.tests)
        return tuple(n for n in names if self.native.end_of(n).end != self.dune.end_of(n).end)

    @property
    def endless(self) -> bool:
        """Whether neither came to its end, so that not all of the unit was compared."""
        ends = (self.native.end_of(WHOLE).end, self.dune.end_of(WHOLE).end)
        return all(end in (End.HUNG, End.GUEST_DIED) for end in ends)

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.native.suite,
            "unit": self.native.unit,
            "native": {"seconds": round(self.native.seconds, 3), "counts": self.native.counts},
            "dune": {"seconds": round(self.dune.seconds, 3), "counts": self.dune.counts},
        }


def differences(tries: Sequence[Pair]) -> tuple[Difference, ...]:
    """What Dune mode showed of one unit and native mode did not.

    A test that fails now and then does so both ways: an end is a difference if
    no try has it natively.  Steady: no end of the test was seen both ways.
    """
    found: list[Difference] = []
    for name in dict.fromkeys(name for pair in tries for name in pair.differing):
        natively = {pair.native.end_of(name).end for pair in tries}
        in_dune = {pair.dune.end_of(name).end for pair in tries}
        if in_dune <= natively:
            continue
        shown = next(p for p in tries if p.dune.end_of(name).end not in natively)
        first = shown.native
        found.append(
            Difference(
                first.suite,
                first.unit,
                first.end_of(name),
                shown.dune.end_of(name),
                steady=not in_dune & natively,
            )
        )
    return tuple(found)
