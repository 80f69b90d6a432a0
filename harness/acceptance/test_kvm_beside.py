# SPDX-License-Identifier: MIT
"""dune.ko and the kernel's own KVM in one guest.

Since 7.1 the kernel counts who uses VT-x or SVM, and both run side by side.  Before, one
of them has the CPU, and the other one says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.exports import imports
from dunelab.images.kernel import modinfo, unpack_modules
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell, Vendor

pytestmark = [
    pytest.mark.guest_group("module"),
    pytest.mark.usefixtures("reloaded"),
    pytest.mark.thorough,
    pytest.mark.slow(bochs=300),
]

VENDOR_MODULE = {Vendor.AMD: "kvm_amd", Vendor.INTEL: "kvm_intel"}
# Since 6.12 KVM turns the extension on when it is loaded, and not with its
# first VM; the parameter that says so came with it, and is on by default.
AT_LOAD = "enable_virt_at_load"

# Each lets the other one have the CPU.
ROUNDS = 300

InGuest = Callable[[str], str]
Enter = Callable[[], tuple[int, str]]


class Kvm:
    """The kernel's own KVM for the guest's vendor, pushed and not loaded."""

    def __init__(self, files: list[Path], in_guest: InGuest) -> None:
        self._files = files
        self._in_guest = in_guest

    @property
    def shares(self) -> bool:
        """Whether this KVM has the kernel count who uses the extension."""
        return any("x86_virt_get_ref" in imports(file.read_bytes()) for file in self._files)

    @property
    def holds_at_load(self) -> bool:
        """Whether this KVM takes the CPU as soon as it is loaded."""
        core = next(file for file in self._files if file.stem == "kvm")
        return any(text.startswith(f"{AT_LOAD}:") for text in modinfo(core).get("parmtype", []))

    def load(self, parameters: str = "") -> None:
        """Load it with parameters for kvm.ko."""
        for file in self._files:
            extra = parameters if file.stem == "kvm" else ""
            self._in_guest(f"insmod {GUEST_FOLDER}/{file.name} {extra}")

    def unload(self) -> None:
        """Unload what is loaded of it."""
        for file in reversed(self._files):
            self._in_guest(f"! grep -q '^{file.stem} ' /proc/modules || rmmod {file.stem}")


@pytest.fixture
def kvm(
    guest_context: Guest, cell: Cell, lab: DuneLab, in_guest: InGuest, tmp_path: Path
) -> Iterator[Kvm]:
    """It goes when the test ends."""
    kernel = lab.store.kernel(cell.kernel)
    modules = unpack_modules(kernel, [VENDOR_MODULE[cell.vendor]], tmp_path)
    files = [module.path for module in modules.values()]
    push_once(guest_context, {file.name: file for file in files})
    made = Kvm(files, in_guest)
    yield made
    made.unload()


@pytest.fixture
def enter(guest_context: Guest, lab: DuneLab) -> Enter:
    """Run a program that enters Dune mode and proves it: its status and what it said."""
    name = "behaviour/enter_static"
    push_once(guest_context, {name: lab.program(name)})

    def run() -> tuple[int, str]:
        done = guest_context.machine.run(
            f"cd {GUEST_FOLDER} && ./{name}", Deadline.after(60, "end of a Dune program")
        )
        return done.exit_status, done.stdout + done.stderr

    return run


class Busy:
    """Programs in the background of the guest, which all want one CPU, and their results."""

    def __init__(self, in_guest: InGuest) -> None:
        self._in_guest = in_guest

    def machine(self, name: str) -> None:
        """A virtual machine of KVM's that runs until ``end``."""
        self._start(name, f"plain/kvm_guest {ROUNDS} {name}.stop")
        self._wait(f"[ -s {name}.txt ] || [ -s {name}.status ]", name)

    def process(self, name: str) -> None:
        """A process in Dune mode that runs until ``end``; it is in Dune mode on return."""
        self._start(name, f"dune-run --verify plain/neighbour {ROUNDS} {name}.stop")
        self._wait(f"grep -q 'CPL 0' {name}.txt || [ -s {name}.status ]", name)

    def _start(self, name: str, command: str) -> None:
        self._in_guest(
            f"cd {GUEST_FOLDER} && rm -f {name}.* && (taskset -c 1 {command} "
            f">{name}.txt 2>&1; echo $? >{name}.status) </dev/null >/dev/null 2>&1 &"
        )

    def _wait(self, condition: str, name: str) -> None:
        self._in_guest(
            f"cd {GUEST_FOLDER} && for i in $(seq 1500); do {{ {condition}; }} && exit 0; "
            f"sleep 0.1; done; cat {name}.txt; exit 1"
        )

    def runs(self, name: str) -> bool:
        """Whether it has not ended."""
        return self._in_guest(f"[ -s {GUEST_FOLDER}/{name}.status ] || echo runs") == "runs\n"

    def end(self, name: str) -> tuple[str, str]:
        """End it when it has done its rounds: its exit status and what it said."""
        self._in_guest(f"touch {GUEST_FOLDER}/{name}.stop")
        self._wait(f"[ -s {name}.status ]", name)
        status, _, said = self._in_guest(
            f"cd {GUEST_FOLDER} && cat {name}.status {name}.txt"
        ).partition("\n")
        return status, said


@pytest.fixture
def busy(guest_context: Guest, lab: DuneLab, in_guest: InGuest) -> Busy:
    """Programs that take turns on one CPU: a machine of KVM's, and a process in Dune mode."""
    names = ("plain/kvm_guest", "plain/neighbour")
    push_once(guest_context, {name: lab.program(name) for name in names})
    return Busy(in_guest)


def rounds(said: str, program: str) -> int:
    found = re.search(rf"^{program}: (\d+) rounds$", said, re.MULTILINE)
    assert found, said
    return int(found[1])


def ran_in_dune_mode(done: tuple[str, str]) -> None:
    status, said = done
    assert status == "0", said
    assert "dune-run: CPL 0" in said
    assert rounds(said, "neighbour") >= ROUNDS


def ran_as_machine(done: tuple[str, str]) -> None:
    status, said = done
    assert status == "0", said
    assert rounds(said, "kvm_guest") >= ROUNDS


def is_refused(enter: Enter, in_guest: InGuest) -> None:
    in_guest("dmesg -c >/dev/null")
    status, said = enter()
    assert status != 0
    assert "Device or resource busy" in said
    assert "unload" in in_guest("dmesg | grep dune:")


def test_kvm_that_is_loaded(kvm: Kvm, enter: Enter, in_guest: InGuest) -> None:
    kvm.load()
    if kvm.holds_at_load and not kvm.shares:
        is_refused(enter, in_guest)
    else:
        status, said = enter()
        assert status == 0, said


def test_kvm_that_waits_for_its_first_vm_is_no_obstacle(kvm: Kvm, enter: Enter) -> None:
    """Before 6.12 this is how KVM always is."""
    kvm.load(f"{AT_LOAD}=0" if kvm.holds_at_load else "")
    status, said = enter()
    assert status == 0, said


def test_after_kvm_has_gone_all_is_as_before(kvm: Kvm, enter: Enter) -> None:
    kvm.load()
    kvm.unload()
    status, said = enter()
    assert status == 0, said


def test_a_running_machine(kvm: Kvm, busy: Busy, enter: Enter, in_guest: InGuest) -> None:
    """On the same CPU as processes in Dune mode, before, during and after; or in their way."""
    kvm.load(f"{AT_LOAD}=0" if kvm.holds_at_load else "")
    busy.process("before")
    ran_in_dune_mode(busy.end("before"))
    busy.machine("machine")
    if kvm.shares:
        for name in ("during", "besides"):
            busy.process(name)
        for name in ("during", "besides"):
            ran_in_dune_mode(busy.end(name))
    else:
        is_refused(enter, in_guest)
    assert busy.runs("machine")
    ran_as_machine(busy.end("machine"))
    busy.process("after")
    ran_in_dune_mode(busy.end("after"))


def test_kvm_that_comes_to_dune_processes(
    kvm: Kvm, busy: Busy, in_guest: InGuest, cpu_state: Callable[[], str]
) -> None:
    """It is loaded, runs a machine and is unloaded while a process is in Dune mode."""
    before = cpu_state()
    busy.process("process")
    if kvm.shares:
        kvm.load()
        busy.machine("machine")
        ran_as_machine(busy.end("machine"))
        kvm.unload()
    elif kvm.holds_at_load:
        with pytest.raises(AssertionError, match="insmod"):
            kvm.load()
        assert "enabling virtualization on CPU" in in_guest("dmesg | tail -n 5")
    else:
        kvm.load()
        busy.machine("machine")
        status, said = busy.end("machine")
        assert status == "1"
        assert "KVM_CREATE_VM: Device or resource busy" in said
    assert busy.runs("process")
    ran_in_dune_mode(busy.end("process"))
    kvm.unload()
    assert cpu_state() == before
