# SPDX-License-Identifier: MIT
"""What only a debug kernel can say: KASAN, lockdep, kmemleak, fault injection.

The first three watch all tests of a run on it, these here and the others; each
guest is asked at its end (``dunelab.dune.guest.last_check``).  Here they prove that
they ring, and what out of memory leaves behind is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from host_commands import REPOSITORY

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_module
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.pytest_support import runner
from dunelab.pytest_support.header import list_programs
from dunelab.pytest_support.pool import Guest
from dunelab.results import ktap
from dunelab.spec import Cell

pytestmark = [pytest.mark.guest_group("debug"), pytest.mark.usefixtures("debug_kernel", "reloaded")]

ALARMS = REPOSITORY / "tests/modules"
ALARM_SECONDS = 120.0
PAGE = 4096
# Each place leaves as many pages behind as there were rounds, if it leaves one.
ROUNDS = 20
FAILURES_SECONDS = 1200.0
# Each allocation and each lock is looked after.
SLOWER = 5
FAILURES = "native/alloc_failures"
CGROUP = "/tmp/cgroup"  # noqa: S108 - a path inside the guest
# Of each kind, one program: what they leave is looked for afterwards.
PROGRAMS = (
    "behaviour/children",
    "behaviour/fpu",
    "behaviour/mem_map",
    "behaviour/mem_sharing",
    "behaviour/signals",
    "behaviour/threads",
    "behaviour/two_processes",
    "native/ioctl_fuzz",
)

InGuest = Callable[[str], str]
Ring = Callable[[str], None]


@pytest.fixture
def debug_kernel(cell: Cell, lab: DuneLab) -> None:
    """Skip where the kernel has no such alarms, before a guest is started."""
    if not lab.store.kernel(cell.kernel).has("DEBUG_KMEMLEAK"):
        pytest.skip(
            f"{cell.kernel} has neither KASAN, lockdep, kmemleak nor fault injection: "
            f"--kernel {lab.store.debug_recipe.id} has"
        )


@pytest.fixture
def ring(guest: Machine, guest_context: Guest, lab: DuneLab, cell: Cell) -> Ring:
    """Load an alarm module."""

    def load(name: str) -> None:
        built = lab.module(cell.kernel, ALARMS / name)
        runner.push_once(guest_context, {f"{name}.ko": built.path_stripped})
        guest.succeed(
            f"insmod {runner.GUEST_FOLDER}/{name}.ko", Deadline.after(ALARM_SECONDS, name)
        )

    return load


def test_kasan_rings(ring: Ring, expect_splat: Callable[[str], None]) -> None:
    expect_splat(r"KASAN: slab-use-after-free in read_again")
    ring("alarm_kasan")


def test_lockdep_rings(guest: Machine, ring: Ring, expect_splat: Callable[[str], None]) -> None:
    """It rings once: then it is off, which is seen."""
    assert dune_module.locks_are_watched(guest)
    expect_splat(r"WARNING: possible circular locking dependency detected")
    ring("alarm_lockdep")
    assert not dune_module.locks_are_watched(guest)


def test_kmemleak_rings(guest: Machine, ring: Ring, in_guest: InGuest) -> None:
    ring("alarm_leak")
    report = dune_module.leaks(guest)
    in_guest(f"echo clear >{dune_module.LEAKS}")
    assert report.count("unreferenced object") >= 8
    assert "[alarm_leak]" in report
    assert dune_module.leaks(guest) == ""


def test_nothing_leaks_and_no_lock_is_out_of_order(
    guest: Machine, guest_context: Guest, lab: DuneLab
) -> None:
    """Some programs, the module's end, and nothing to be said about it."""
    programs = {program.path: program for program in list_programs(REPOSITORY / "tests")}
    for path in PROGRAMS:
        options = programs[path].options
        program = replace(
            programs[path], options=replace(options, timeout=SLOWER * options.timeout)
        )
        run = runner.run_program(guest_context, program, lab.program(path), lab.libraries())
        runner.judge(run, guest_context.cell.engine)
    assert dune_module.last_check(guest) == ""


def kernel_pages(stat: str) -> int:
    """Pages of a memory cgroup that the kernel has and that are of none of the known kinds.

    Second-stage tables are such pages, and those a vCPU shares with its process;
    kmemleak sees only what came from the slab allocator or vmalloc().
    """
    values = {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", stat, re.M)}
    known = ("slab", "kernel_stack", "pagetables", "sec_pagetables", "percpu", "vmalloc")
    return (values["kernel"] - sum(values[name] for name in known)) // PAGE


def test_a_call_that_fails_leaves_nothing(
    guest: Machine, guest_context: Guest, lab: DuneLab, in_guest: InGuest
) -> None:
    """Every allocation of the module's fails, many times over: none is lost.

    A place that loses one loses one in each round.
    """
    runner.push_once(guest_context, {FAILURES: lab.program(FAILURES)})
    in_guest(
        f"mkdir -p {CGROUP} && mount -t cgroup2 none {CGROUP} && "
        f"echo +memory >{CGROUP}/cgroup.subtree_control && mkdir {CGROUP}/failures"
    )
    document = ktap.parse(
        guest.succeed(
            f"echo $$ >{CGROUP}/failures/cgroup.procs && "
            f"exec {runner.GUEST_FOLDER}/{FAILURES} {ROUNDS}",
            Deadline.after(FAILURES_SECONDS, f"end of {FAILURES}"),
        )
    )
    assert document.complaints() == ()
    assert not document.skipped
    # Waits for what is freed later.
    dune_module.unload_module(guest)
    pages = kernel_pages(in_guest(f"cat {CGROUP}/failures/memory.stat"))
    in_guest(f"rmdir {CGROUP}/failures && umount {CGROUP}")
    assert pages < ROUNDS // 2
    assert dune_module.leaks(guest) == ""
