# SPDX-License-Identifier: MIT
"""The commands people type, on each cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dunelab.spec import Cell, EngineName

pytestmark = pytest.mark.guest_group("cli")

Dunelab = Callable[..., Any]


def machine(cell: Cell) -> tuple[str, ...]:
    """The options that name a cell."""
    return ("--engine", cell.engine, "--vendor", cell.vendor, "--kernel", cell.kernel)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A program that says where it runs."""
    path = tmp_path / "hello.sh"
    path.write_text(
        "#!/bin/sh\nuname -r\n[ -c /dev/dune ] && echo has dune\necho oops >&2\nexit 42\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.slow(bochs=40)
def test_exec_returns_status_and_output(cell: Cell, dunelab: Dunelab, script: Path) -> None:
    done = dunelab("exec", *machine(cell), "--push", str(script), "--", "./hello.sh")
    assert done.status == 42, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1:] == ["has dune"]
    assert lines[0].startswith(cell.kernel.removeprefix("debian-"))
    assert "oops" in done.stderr


# Each boots a guest of its own, and the text is the shell's whatever runs the guest.
@pytest.mark.thorough
@pytest.mark.only_engines("tcg", "kvm")
def test_exec_of_shell_text(cell: Cell, dunelab: Dunelab) -> None:
    done = dunelab("exec", *machine(cell), "--", "exit $((40 + 2))")
    assert done.status == 42, done.stderr


@pytest.mark.slow(bochs=40)
def test_show_command(cell: Cell, dunelab: Dunelab) -> None:
    done = dunelab("show-command", *machine(cell))
    assert done.status == 0, done.stderr
    binary = "bochs" if cell.engine is EngineName.BOCHS else "qemu-system-x86_64"
    assert binary in done.stdout


def test_a_cell_that_cannot_be_is_an_error_with_the_next_command(dunelab: Dunelab) -> None:
    done = dunelab("exec", "--engine", "tcg", "--vendor", "intel", "--", "true")
    assert done.status == 2
    assert "VT-x" in done.stderr
    assert "next:" in done.stderr


def test_exec_without_a_command(dunelab: Dunelab) -> None:
    done = dunelab("exec")
    assert done.status == 2
    assert "no command" in done.stderr
