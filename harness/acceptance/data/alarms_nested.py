# SPDX-License-Identifier: MIT
"""The nested run's tests: each sets off one alarm.  None of them is to pass.

Copied into a folder of its own and run there by test_alarms.py, which reads
how each came out.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.pytest_support.runner import push_once

REPOSITORY = Path((Path(__file__).resolve().parent / "repository.txt").read_text())


@pytest.fixture
def ring(guest, guest_context, lab, cell):
    """Load an alarm module: what it does, it does on loading."""

    def load(name, seconds=20.0):
        built = lab.module(cell.kernel, REPOSITORY / "tests" / "modules" / name)
        guest_context.booted.builds.symbols[built.name] = built.path_debug
        push_once(guest_context, {f"{name}.ko": built.path_stripped})
        return guest.run(f"insmod /tmp/dunelab/{name}.ko", Deadline.after(seconds, f"{name}"))

    return load


def test_panic(ring):
    ring("alarm_panic")


def test_oops_but_lives(ring, guest):
    assert ring("alarm_oops").exit_status == 0
    time.sleep(2)
    assert guest.succeed("echo alive").strip() == "alive"


def test_bug_but_lives(ring, guest):
    ring("alarm_bug")
    time.sleep(2)
    assert guest.succeed("echo alive").strip() == "alive"


def test_warning(ring):
    assert ring("alarm_warn").exit_status == 0
    time.sleep(1)


def test_hang(ring):
    ring("alarm_hang", seconds=10.0)


def test_refused_module(ring, guest):
    done = ring("alarm_refuse")
    said = guest.succeed("dmesg | tail -n 5")
    assert done.exit_status == 0, f"{done.stderr}\n{said}"


@pytest.mark.guest_variant(append=("clearcpuid=svm",))
@pytest.mark.guest_group("nosvm")
def test_dune_refuses_a_cpu_without_svm(guest):
    raise RuntimeError("dune.ko was loaded where there is nothing to load it for")


@pytest.mark.guest_variant(append=("rdinit=/bin/true",))
@pytest.mark.guest_group("noinit")
def test_panic_on_the_way_up(guest):
    raise RuntimeError("a guest without init came up")


@pytest.mark.guest_variant(
    append=("rdinit=/nonexistent", "init=/bin/sh", "root=/dev/ram0", "rootwait")
)
@pytest.mark.guest_group("silent")
def test_never_boots(guest):
    raise RuntimeError("a guest without a root came up")


@pytest.mark.guest_programs("behaviour")
def test_program(run_program):
    run_program()


def test_good_to_the_end(guest):
    assert guest.succeed("echo fine").strip() == "fine"
