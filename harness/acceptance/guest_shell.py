# SPDX-License-Identifier: MIT
"""Shell text in a guest, and programs of tests/plain: what the fixtures give (conftest)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from dunelab.spec import CommandResult, EngineName

SECONDS = 120.0
NATIVE_TRIES = 3
WRITES_CODE = ("java",)  # and runs it: a compiler at run time


@dataclass(frozen=True)
class Outcome:
    """How a piece of shell text ended."""

    status: int
    stdout: str
    stderr: str


Shell = Callable[..., Outcome]
Plain = Callable[[str], str]


def natively(
    engine: EngineName, name: str, run: Callable[[], CommandResult], status: int = 0
) -> CommandResult:
    """What a program does natively, to compare with: it must end with a status.

    On TCG those of WRITES_CODE, and no others, are asked again if they do not: they may be
    given old code there (docs/engines.md).  The run's summary warns of each such end.
    """
    tries = NATIVE_TRIES if engine is EngineName.TCG and name in WRITES_CODE else 1
    for left in reversed(range(tries)):
        done = run()
        if done.exit_status == status:
            break
        said = f"natively it ended with {done.exit_status}: {done.stdout[-2000:]}{done.stderr}"
        assert left, said
        warnings.warn(said, stacklevel=2)
    return done
