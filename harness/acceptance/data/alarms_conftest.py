# SPDX-License-Identifier: MIT
"""conftest.py of the nested run: guests as usual, with two deliberate faults.

Programs are shell scripts of this folder, and a guest that does not boot is
given up after a short time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dunelab.dune.lab import BOOT_SECONDS, DuneLab
from dunelab.spec import EngineName

HERE = Path(__file__).resolve().parent
PATIENCE = {**BOOT_SECONDS, EngineName.TCG: 30.0}


class AlarmLab(DuneLab):
    """The real thing, but for its programs."""

    def program(self, name: str) -> Path:
        return HERE / "programs" / name

    def libraries(self) -> tuple[Path, ...]:
        return ()


def pytest_dunelab_lab(config: pytest.Config) -> DuneLab:
    return AlarmLab(Path((HERE / "repository.txt").read_text()), boot_seconds=PATIENCE)
