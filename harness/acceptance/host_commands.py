# SPDX-License-Identifier: MIT
"""Running this project's commands on the host, as its users do."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """A host command that ended."""

    status: int
    stdout: str
    stderr: str


def run_on_host(
    *argv: str, seconds: float, env: dict[str, str] | None = None, cwd: Path = REPOSITORY
) -> Finished:
    """Run a command of this project as its users do, in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        argv,
        cwd=cwd,
        env={**clean, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
