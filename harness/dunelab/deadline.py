# SPDX-License-Identifier: MIT
"""One deadline object, passed down, instead of seconds that add up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from dunelab.errors import DeadlineExpired


@dataclass(frozen=True)
class Deadline:
    """A point on the monotonic clock, and what was hoped for by then."""

    at: float
    what: str
    seconds: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(
        cls, seconds: float, what: str, clock: Callable[[], float] = time.monotonic
    ) -> Deadline:
        """A deadline ``seconds`` from now for ``what``."""
        return cls(clock() + seconds, what, seconds, clock)

    def remaining(self) -> float:
        """Seconds left, never negative: fit for any ``timeout=`` argument."""
        return max(0.0, self.at - self.clock())

    @property
    def expired(self) -> bool:
        return self.clock() >= self.at

    def sooner(self, seconds: float, what: str | None = None) -> Deadline:
        """A child deadline: ``seconds`` from now, but never later than this one."""
        at = min(self.at, self.clock() + seconds)
        return Deadline(at, what or self.what, at - self.clock(), self.clock)

    def check(self) -> None:
        """Raise when the time is up."""
        if self.expired:
            raise DeadlineExpired(f"no {self.what} within {self.seconds:.1f} s")
