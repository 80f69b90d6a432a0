# SPDX-License-Identifier: MIT
"""QEMU/KVM with nesting: real cycles, on hosts that pass their extension on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.engines import qemu
from dunelab.engines.base import Availability, Instance
from dunelab.engines.kvm_probe import KvmVerdict, probe
from dunelab.errors import EngineUnavailable, UsageError
from dunelab.spec import EngineName, MachineSpec, Unit, Vendor


class KvmEngine:
    """Hardware virtualisation, nested.  Its unit is cycles.

    The vendor is the host's: an Intel host cannot run the SVM tests.
    """

    name = EngineName.KVM
    vendors = (Vendor.INTEL, Vendor.AMD)
    unit = Unit.CYCLES
    # KVM can migrate a guest, but one with VMXON or SVME set only on hosts
    # and kernels that agree on the nested state: not worth a second of boot.
    can_save = False

    def __init__(self, probe: Callable[[], KvmVerdict] = probe) -> None:
        self._probe = probe

    @cached_property
    def verdict(self) -> KvmVerdict:
        """The probe's result, asked for once."""
        return self._probe()

    def check(self, vendor: Vendor) -> Availability:
        verdict = self.verdict
        facts = {"host_vendor": verdict.host_vendor, "nests": str(verdict.nests or "no")}
        if verdict.nests is None:
            return Availability(
                False, verdict.reason, verdict.next_command, facts, verdict.mendable
            )
        if verdict.nests is not vendor:
            return Availability(
                False,
                f"this host nests {verdict.nests} only, {vendor} needs an emulator",
                f"dunelab exec --engine auto --vendor {vendor} -- uname -r",
                facts,
                mendable=False,
            )
        if qemu.find_binary() is None:
            return Availability(False, qemu.missing(), qemu.INSTALL, facts)
        return Availability(True, verdict.reason, facts=facts)

    def command_line(self, spec: MachineSpec) -> str:
        return qemu.command_line(spec)

    def state_key(self, spec: MachineSpec) -> str:
        raise UsageError("the kvm engine has no saved states")

    def start(
        self, spec: MachineSpec, deadline: Deadline, restore_from: Path | None = None
    ) -> Instance:
        if restore_from is not None:
            raise UsageError("the kvm engine has no saved states")
        found = self.check(spec.cell.vendor)
        if not found.ok:
            raise EngineUnavailable(
                f"engine kvm cannot do vendor {spec.cell.vendor} here: {found.reason}",
                next_command=found.next_command,
            )
        return qemu.start_qemu(spec, deadline, self.unit, None)
