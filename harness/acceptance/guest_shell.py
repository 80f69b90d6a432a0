# SPDX-License-Identifier: MIT
"""Shell text in a guest, and programs of tests/plain: what the fixtures give (conftest)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

SECONDS = 120.0


@dataclass(frozen=True)
class Outcome:
    """How a piece of shell text ended."""

    status: int
    stdout: str
    stderr: str


Shell = Callable[..., Outcome]
Plain = Callable[[str], str]
