# SPDX-License-Identifier: MIT
"""dune.ko and the kernel's own KVM in one guest: one of them has the CPU, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.kernel import modinfo, unpack_modules
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell, Vendor

pytestmark = [
    pytest.mark.guest_group("module"),
    pytest.mark.usefixtures("reloaded"),
    pytest.mark.slow(bochs=20),
]

VENDOR_MODULE = {Vendor.AMD: "kvm_amd", Vendor.INTEL: "kvm_intel"}
# Since 6.12 KVM turns the extension on when it is loaded, and not with its
# first VM; the parameter that says so came with it, and is on by default.
AT_LOAD = "enable_virt_at_load"

InGuest = Callable[[str], str]
Enter = Callable[[], tuple[int, str]]


class Kvm:
    """The kernel's own KVM for the guest's vendor, pushed and not loaded."""

    def __init__(self, files: list[Path], in_guest: InGuest) -> None:
        self._files = files
        self._in_guest = in_guest

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


def test_kvm_that_holds_the_cpu_is_named(kvm: Kvm, enter: Enter, in_guest: InGuest) -> None:
    kvm.load()
    in_guest("dmesg -c >/dev/null")
    status, said = enter()
    if kvm.holds_at_load:
        assert status != 0
        assert "Device or resource busy" in said
        assert "unload" in in_guest("dmesg | grep dune:")
    else:
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
