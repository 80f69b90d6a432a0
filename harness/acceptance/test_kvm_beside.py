# SPDX-License-Identifier: MIT
"""dune.ko and the kernel's own KVM in one guest: one of them has the CPU, and says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.kernel import (
    builtin_modules,
    depends_of,
    load_order,
    modinfo,
    module_name,
    read_module,
)
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell, Vendor

pytestmark = [pytest.mark.guest_group("module"), pytest.mark.usefixtures("reloaded")]

VENDOR_MODULE = {Vendor.AMD: "kvm_amd", Vendor.INTEL: "kvm_intel"}
# Since 6.12 KVM turns the extension on when it is loaded, and not with its first VM.
AT_LOAD = "/sys/module/kvm/parameters/enable_virt_at_load"

InGuest = Callable[[str], str]


def unpack_modules(tree: Path, name: str, folder: Path) -> list[Path]:
    """``name`` and what it needs out of a kernel's modules, in the order to load them."""
    available = {module_name(path.name): path for path in tree.rglob("*.ko*")}
    builtin = builtin_modules((tree / "modules.builtin").read_text("utf-8"))

    def depends(wanted: str) -> tuple[str, ...]:
        unpacked = folder / f"{wanted}.ko"
        unpacked.write_bytes(read_module(available[wanted]))
        return tuple(needed for needed in depends_of(modinfo(unpacked)) if needed not in builtin)

    return [folder / f"{wanted}.ko" for wanted in load_order([name], depends)]


@pytest.fixture
def load_kvm(
    guest_context: Guest, cell: Cell, lab: DuneLab, in_guest: InGuest, tmp_path: Path
) -> Iterator[Callable[[str], None]]:
    """Load the kernel's KVM with parameters for kvm.ko; it goes when the test ends."""
    files = unpack_modules(
        lab.store.kernel(cell.kernel).modules, VENDOR_MODULE[cell.vendor], tmp_path
    )
    push_once(guest_context, {file.name: file for file in files})

    def load(parameters: str) -> None:
        for file in files:
            extra = parameters if file.stem == "kvm" else ""
            in_guest(f"insmod {GUEST_FOLDER}/{file.name} {extra}")

    yield load
    for file in reversed(files):
        in_guest(f"! grep -q '^{file.stem} ' /proc/modules || rmmod {file.stem}")


def run_enter(guest_context: Guest, lab: DuneLab) -> tuple[int, str]:
    """Run a program that enters Dune mode and proves it: its status and what it said."""
    name = "behaviour/enter_static"
    push_once(guest_context, {name: lab.program(name)})
    done = guest_context.machine.run(
        f"cd {GUEST_FOLDER} && ./{name}", Deadline.after(60, "end of a Dune program")
    )
    return done.exit_status, done.stdout + done.stderr


def test_kvm_that_holds_the_cpu_is_named(
    guest: Machine,
    guest_context: Guest,
    lab: DuneLab,
    load_kvm: Callable[[str], None],
    in_guest: InGuest,
) -> None:
    load_kvm("")
    in_guest("dmesg -c >/dev/null")
    status, said = run_enter(guest_context, lab)
    if in_guest(f"[ -e {AT_LOAD} ] && cat {AT_LOAD} || echo N").strip() == "Y":
        assert status != 0
        assert "Device or resource busy" in said
        assert "unload" in in_guest("dmesg | grep dune:")
    else:
        assert status == 0, said


def test_kvm_that_waits_for_its_first_vm_is_no_obstacle(
    guest: Machine,
    guest_context: Guest,
    lab: DuneLab,
    load_kvm: Callable[[str], None],
    in_guest: InGuest,
) -> None:
    """Before 6.12 this is how KVM always is."""
    major, minor = in_guest("cat /proc/sys/kernel/osrelease").split(".")[:2]
    load_kvm("enable_virt_at_load=0" if (int(major), int(minor)) >= (6, 12) else "")
    status, said = run_enter(guest_context, lab)
    assert status == 0, said


def test_after_kvm_has_gone_all_is_as_before(
    guest: Machine,
    guest_context: Guest,
    lab: DuneLab,
    cell: Cell,
    load_kvm: Callable[[str], None],
    in_guest: InGuest,
) -> None:
    load_kvm("")
    in_guest(f"rmmod {VENDOR_MODULE[cell.vendor]}")
    status, said = run_enter(guest_context, lab)
    assert status == 0, said
