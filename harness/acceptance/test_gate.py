# SPDX-License-Identifier: MIT
"""The gate of costs is proven: ten instructions more on a hot path are caught.

A copy of this tree with one benchmark is measured and accepted as it is, and
passes its own check; then ten NOPs go behind the hypercall of the system-call
gate, and the check names the row.  (Before it, the module would take the call for
one that does not come from the gate.)
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from host_commands import REPOSITORY, Finished, run_on_host

from dunelab.spec import Cell

NEEDED = ("src", "images", "tests", "harness/acceptance")
# One program per kind is what the suite wants to see; headers stay.
PROGRAMS = {"behaviour": "enter", "bench": "getpid", "native": ""}
GATE = Path("src/libdune/syscall_asm.S")
SECONDS = 900.0

Bench = Callable[..., Finished]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small copy of this repository, to be changed at will."""
    copy = tmp_path / "tree"
    litter = shutil.ignore_patterns("__pycache__", "build", "*.o", "*.ko")
    for folder in NEEDED:
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=litter)
    shutil.copy(REPOSITORY / "pyproject.toml", copy)
    for kind, name in PROGRAMS.items():
        sources = sorted((copy / "tests" / kind).glob("*.c*"))
        kept = name or sources[0].stem
        for source in sources:
            if source.stem != kept:
                source.unlink()
    return copy


@pytest.fixture
def bench(tree: Path, cell: Cell, resting_guests: None) -> Bench:
    """Run ``dunelab bench`` in the copy, with baselines of its own."""

    def run(*words: str) -> Finished:
        return run_on_host(
            *(sys.executable, "-m", "dunelab.cli.main", "bench", "-n", "1"),
            *("--engine", cell.engine, "--vendor", cell.vendor, "--kernel", cell.kernel),
            *("--baselines", str(tree / "baselines"), *words),
            seconds=SECONDS,
            cwd=tree,
        )

    return run


def slow_down(source: Path, instructions: int) -> None:
    """Put NOPs behind the hypercall of both gates where a system call in Dune mode lands."""
    text, places = re.subn(
        r"^(FUNC\(__dune_syscall_(?:vmx|svm)\)\n\tvmm?call)$",
        rf"\1\n\t.rept {instructions}\n\tnop\n\t.endr",
        source.read_text(),
        flags=re.MULTILINE,
    )
    assert places == 2, f"{source.name}: the gates of both vendors were to be changed"
    source.write_text(text)


@pytest.mark.guest_group("gate")
@pytest.mark.slow(300)
@pytest.mark.only_engines("tcg", "bochs")
def test_ten_instructions_on_a_hot_path_are_caught(tree: Path, cell: Cell, bench: Bench) -> None:
    accepted = bench("--accept", "as it is", "--repeat", "1")
    assert accepted.status == 0, accepted.stdout + accepted.stderr

    same = bench("--check")
    assert same.status == 0, same.stdout + same.stderr
    assert f"gate: {cell}: ok" in same.stdout

    slow_down(tree / GATE, 10)
    slower = bench("--check")
    assert slower.status == 1, slower.stdout + slower.stderr
    assert f"gate: {cell}: FAILED" in slower.stdout
    found = re.findall(r"^  moved (\w+): .* \(\+(\d+)[,;]", slower.stdout, re.MULTILINE)
    moved = {name: int(ticks) for name, ticks in found}
    # Whole ticks on both sides: an average of 500.9 is 500.
    assert 9 <= moved.get("getpid_dune", 0) <= 11, slower.stdout
    assert not [name for name in moved if name.endswith("_native")], slower.stdout
