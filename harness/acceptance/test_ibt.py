# SPDX-License-Identifier: MIT
"""dune.ko on a CPU with indirect branch tracking, and the proof that it is at work.

Part of the kernel matrix: the cells that `dunelab matrix` runs on Bochs' tigerlake.
A call of dune.ko to where no ENDBR64 stands would end the guest in all other tests of
such a cell; here the alarm is shown to ring.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import push_once
from dunelab.spec import Cell

pytestmark = [
    pytest.mark.guest_group("ibt"),
    pytest.mark.only_vendors("intel"),
    pytest.mark.only_cpu_models("tigerlake"),
]

ALARM = Path(__file__).resolve().parents[2] / "tests/modules/alarm_endbr"
PROGRAM = "/usr/bin/dune-run /usr/bin/busybox true"


@pytest.fixture
def tracked(in_guest: Callable[[str], str]) -> None:
    """IBT is on; a kernel that was not built for it says nothing here."""
    if "exc_control_protection" not in in_guest("grep -w exc_control_protection /proc/kallsyms; :"):
        pytest.skip("this kernel was built without CONFIG_X86_KERNEL_IBT")
    assert "Indirect Branch Tracking enabled" in in_guest("dmesg | grep CET")


def test_a_program_in_dune_mode(tracked: None, in_guest: Callable[[str], str]) -> None:
    """Entry, system calls on both paths, faults and the end: none is a bad branch."""
    in_guest(PROGRAM)
    assert "dune: " in in_guest("dmesg | grep 'dune: VT-x'")


def test_a_call_without_endbr_is_caught(
    tracked: None,
    cell: Cell,
    guest: Machine,
    guest_context: Guest,
    lab: DuneLab,
    expect_splat: Callable[[str], None],
) -> None:
    """The last test of its guest, which has had a BUG() then."""
    built = lab.module(cell.kernel, ALARM)
    guest_context.booted.builds.symbols[built.name] = built.path_debug
    push_once(guest_context, {"alarm_endbr.ko": built.path_stripped})
    expect_splat(r"Missing ENDBR: target \[alarm_endbr\]")
    done = guest.run(
        "insmod /tmp/dunelab/alarm_endbr.ko", Deadline.after(120, "a module that cannot load")
    )
    assert done.exit_status != 0
