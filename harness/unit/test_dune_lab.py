# SPDX-License-Identifier: MIT
"""A guest that QEMU kills on its way up is started once more; any other death counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dunelab.dune.lab import DuneLab
from dunelab.machine.watch import GuestCrashed
from dunelab.pytest_support.header import Variant
from dunelab.pytest_support.lab import Booted
from dunelab.spec import Cell, EngineName, Vendor

TCG = Cell(EngineName.TCG, Vendor.AMD, "debian-6.12")
BOCHS = Cell(EngineName.BOCHS, Vendor.INTEL, "debian-6.12")


STALE = "Code: 00 83 0f <1f> 44 00 00"


@dataclass(frozen=True)
class Fake:
    title: str
    text: str
    fatal: bool = True


def crash(title: str, text: str = STALE) -> GuestCrashed:
    return GuestCrashed("panic", title, console_log=Path("console.log"), splats=[Fake(title, text)])


def booted(again: str = "") -> Booted:
    """A guest that is up, as far as this needs one."""
    machine: Any = None
    builds: Any = None
    return Booted(machine, builds, None, "", Path(), again=again)


def starts(monkeypatch: pytest.MonkeyPatch, *outcomes: object) -> Callable[[], int]:
    """Make each start end as said; returns how many there were."""
    left = list(outcomes)

    def start_once(self: DuneLab, *args: Any) -> object:
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(DuneLab, "_start_once", start_once)
    return lambda: len(outcomes) - len(left)


def test_stale_code_is_no_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said: list[str] = []
    count = starts(monkeypatch, crash("Oops: int3"), ("machine", booted()))
    lab = DuneLab(tmp_path, said.append)
    up = lab.boot_bare(TCG, Variant(cpus=2))
    assert up == booted(up.again)
    assert "console.log" in up.again
    assert count() == 2
    assert len(said) == 1
    assert "evidence: console.log" in said[0]


@pytest.mark.parametrize(
    ("where", "cpus", "title", "text"),
    [
        (TCG, 1, "Oops: int3", STALE),
        (BOCHS, 2, "Oops: int3", STALE),
        (TCG, 2, "general protection fault", STALE),
        (TCG, 2, "Oops: int3", ""),
        (TCG, 2, "Oops: int3", "Code: 00 83 cc <1f> 44 00 00"),
    ],
)
def test_any_other_death_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: Cell, cpus: int, title: str, text: str
) -> None:
    count = starts(monkeypatch, crash(title, text), ("machine", booted()))
    with pytest.raises(GuestCrashed, match=title):
        DuneLab(tmp_path).boot_bare(where, Variant(cpus=cpus))
    assert count() == 1


def test_a_second_death_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    count = starts(monkeypatch, crash("Oops: int3"), crash("int3: 0000"), ("machine", booted()))
    with pytest.raises(GuestCrashed, match="int3: 0000"):
        DuneLab(tmp_path).boot_bare(TCG, Variant(cpus=4))
    assert count() == 2
