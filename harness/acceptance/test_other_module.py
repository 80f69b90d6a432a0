# SPDX-License-Identifier: MIT
"""A module that is not Dune: built for the cell's kernel, loaded, asked, unloaded.

The worked example of docs/other-modules.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.spec import Cell

MODULE = Path(__file__).resolve().parents[2] / "examples/hello"


@pytest.mark.guest_group("module")
def test_hello(guest: Machine, lab: DuneLab, cell: Cell) -> None:
    built = lab.module(cell.kernel, MODULE)
    guest.push(built.path_stripped, "/root/hello.ko")
    guest.succeed("insmod /root/hello.ko")
    assert guest.succeed("cat /dev/hello") == "hello\n"
    guest.succeed("rmmod hello")
    assert guest.fail("cat /dev/hello") == ""
