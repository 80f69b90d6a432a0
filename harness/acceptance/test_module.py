# SPDX-License-Identifier: MIT
"""dune.ko comes and goes, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_module
from dunelab.dune.guest import ModuleRefused
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell, Vendor

pytestmark = [pytest.mark.guest_group("module"), pytest.mark.usefixtures("reloaded")]

# Linux Documentation/admin-guide/tainted-kernels.rst: 12 out-of-tree, 13 unsigned.
TAINT_OF_ANY_MODULE = 1 << 12 | 1 << 13
CR4_VMXE = 1 << 13  # SDM vol. 3, 2.5
EFER_SVME = 1 << 12  # APM vol. 2, 3.1.7
CYCLES = 20
LEAK_KIB = 4 * CYCLES

InGuest = Callable[[str], str]


def switched_on(state: str, vendor: Vendor) -> list[bool]:
    """Whether the vendor's extension is on, for every CPU: CR4.VMXE or EFER.SVME."""
    register, mask = ("cr4", CR4_VMXE) if vendor is Vendor.INTEL else ("efer", EFER_SVME)
    values = re.findall(rf"{register}=(0x[0-9a-f]+)", state)
    assert values, f"no {register} in {state!r}"
    return [bool(int(value, 16) & mask) for value in values]


def test_unload_and_reload(guest: Machine, in_guest: InGuest) -> None:
    for _ in range(3):
        dune_module.unload_module(guest)
        assert "dune" not in in_guest("cut -d' ' -f1 /proc/modules").split()
        in_guest("! [ -e /dev/dune ]")
        dune_module.load_module(guest)
        in_guest("[ -c /dev/dune ]")


def test_taint_is_that_of_any_foreign_module(in_guest: InGuest) -> None:
    taint = int(in_guest("cat /proc/sys/kernel/tainted"))
    assert taint & ~TAINT_OF_ANY_MODULE == 0


class DuneProcess:
    """A Dune process in the guest that stays until it is told to end, a minute at most."""

    PROGRAM = "behaviour/module_in_use"

    def __init__(self, context: Guest, lab: DuneLab, in_guest: InGuest) -> None:
        self._in_guest = in_guest
        files = {path.name: path for path in lab.libraries()}
        push_once(context, {self.PROGRAM: lab.program(self.PROGRAM), **files})

    def start(self) -> None:
        """Return once it is in Dune mode."""
        self._in_guest(
            f"cd {GUEST_FOLDER} && rm -f in_use.* && "
            f"(./{self.PROGRAM} in_use.end >in_use.txt 2>&1; echo $? >in_use.status) &"
        )
        self._wait("grep -q '^# ready' in_use.txt")

    def status(self) -> str:
        """End it; its exit status."""
        self._in_guest(f": >{GUEST_FOLDER}/in_use.end")
        self._wait("[ -s in_use.status ]")
        return self._in_guest(f"cat {GUEST_FOLDER}/in_use.status").strip()

    def _wait(self, condition: str) -> None:
        self._in_guest(
            f"cd {GUEST_FOLDER} && for i in $(seq 300); do {condition} && exit 0; sleep 0.1; done; "
            "cat in_use.txt; exit 1"
        )


@pytest.fixture
def dune_process(guest_context: Guest, lab: DuneLab, in_guest: InGuest) -> DuneProcess:
    return DuneProcess(guest_context, lab, in_guest)


@pytest.mark.slow(bochs=30)
def test_unload_is_refused_while_in_use(
    guest: Machine, dune_process: DuneProcess, in_guest: InGuest
) -> None:
    dune_process.start()
    with pytest.raises(ModuleRefused) as caught:
        dune_module.unload_module(guest)
    assert re.search(r"temporarily unavailable|in use|busy", str(caught.value))
    assert dune_process.status() == "0"
    dune_module.unload_module(guest)


def test_cpus_are_left_as_found(
    guest: Machine, cell: Cell, cpu_state: Callable[[], str], dune_process: DuneProcess
) -> None:
    """CR4.VMXE and EFER.SVME are set on every CPU while a Dune process lives, and only then."""
    dune_module.unload_module(guest)
    before = cpu_state()
    assert len(switched_on(before, cell.vendor)) >= 2
    assert not any(switched_on(before, cell.vendor))
    dune_module.load_module(guest)
    dune_process.start()
    assert all(switched_on(cpu_state(), cell.vendor))
    assert dune_process.status() == "0"
    assert cpu_state() == before
    dune_module.unload_module(guest)
    assert cpu_state() == before


@pytest.mark.thorough
@pytest.mark.slow(bochs=30)
def test_a_cpu_goes_and_comes_back_under_a_dune_process(
    guest: Machine,
    cell: Cell,
    cpu_state: Callable[[], str],
    dune_process: DuneProcess,
    in_guest: InGuest,
) -> None:
    """A CPU that comes while a Dune process lives gets the extension, later it does not."""
    online = "/sys/devices/system/cpu/cpu1/online"
    dune_process.start()
    everywhere = len(switched_on(cpu_state(), cell.vendor))
    in_guest(f"echo 0 >{online}")
    assert switched_on(cpu_state(), cell.vendor) == [True] * (everywhere - 1)
    in_guest(f"echo 1 >{online}")
    assert switched_on(cpu_state(), cell.vendor) == [True] * everywhere
    assert dune_process.status() == "0"
    in_guest(f"echo 0 >{online}; echo 1 >{online}")
    assert switched_on(cpu_state(), cell.vendor) == [False] * everywhere
    dune_module.unload_module(guest)


@pytest.mark.thorough
def test_the_machine_sleeps_under_a_dune_process(
    guest: Machine,
    cell: Cell,
    cpu_state: Callable[[], str],
    dune_process: DuneProcess,
    in_guest: InGuest,
) -> None:
    """Suspended and awake again: the process goes on, new ones come, the module goes.

    pm_test ends the way to sleep once processes are frozen, after the module was told.
    """
    dune_process.start()
    in_guest(
        "echo 1 >/sys/module/suspend/parameters/pm_test_delay; "
        "echo freezer >/sys/power/pm_test && echo freeze >/sys/power/state; "
        "slept=$?; echo none >/sys/power/pm_test; exit $slept"
    )
    assert all(switched_on(cpu_state(), cell.vendor))
    assert dune_process.status() == "0"
    assert not any(switched_on(cpu_state(), cell.vendor))
    dune_process.start()
    assert dune_process.status() == "0"
    dune_module.unload_module(guest)


@pytest.mark.only_vendors("amd")
def test_msr_device_agrees(guest: Machine, in_guest: InGuest) -> None:
    """The same through /dev/cpu/*/msr, which knows EFER (0xc0000080) but no CR4."""
    dune_module.unload_module(guest)
    in_guest("modprobe msr")
    cpus = in_guest("ls -d /dev/cpu/[0-9]*").split()
    assert len(cpus) >= 2
    for cpu in cpus:
        dump = in_guest(
            f"dd if={cpu}/msr bs=8 count=1 iflag=skip_bytes skip={0xC0000080} "
            "2>/dev/null | od -An -tx8"
        )
        assert int(dump, 16) & EFER_SVME == 0


@pytest.mark.thorough
@pytest.mark.slow(bochs=60)
def test_memory_does_not_grow_with_loading(guest: Machine, in_guest: InGuest) -> None:
    """Less than a page per cycle, after a first round that warms caches."""

    def available() -> int:
        in_guest("sync; echo 3 > /proc/sys/vm/drop_caches")
        return int(in_guest("awk '/^MemAvailable:/ { print $2 }' /proc/meminfo"))

    def cycle() -> None:
        path = dune_module.MODULE_PATH
        guest.succeed(
            f"for i in $(seq {CYCLES}); do rmmod dune && insmod {path} || exit 1; done",
            Deadline.after(300, f"{CYCLES} times unload and load"),
        )

    cycle()
    growths = []
    for _ in range(3):
        before = available()
        cycle()
        growths.append(before - available())
    # A leak shows in every round, whatever else the system does in some.
    assert min(growths) < LEAK_KIB, f"KiB per {CYCLES} cycles: {growths}"
