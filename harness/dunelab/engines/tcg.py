# SPDX-License-Identifier: MIT
"""QEMU TCG: SVM with nested paging on any machine, and saved states."""

from __future__ import annotations

from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.engines import qemu
from dunelab.engines.base import Availability, Instance
from dunelab.errors import EngineUnavailable
from dunelab.spec import EngineName, MachineSpec, Unit, Vendor

NO_VTX = "QEMU has no VT-x in TCG (in any version: +vmx is dropped with a warning)"
USE_BOCHS = "dunelab exec --engine bochs --vendor intel -- uname -r"


class TcgEngine:
    """Software emulation by QEMU.  Counts instructions if told to; its unit is ticks then."""

    name = EngineName.TCG
    vendors = (Vendor.AMD,)
    unit = Unit.TICKS
    can_save = True

    def check(self, vendor: Vendor) -> Availability:
        if vendor is not Vendor.AMD:
            return Availability(False, f"{NO_VTX}; use bochs", USE_BOCHS, mendable=False)
        binary = qemu.find_binary()
        if binary is None:
            return Availability(False, qemu.missing(), qemu.INSTALL)
        version = qemu.qemu_version(binary)
        return Availability(True, f"QEMU {version}", facts={"binary": binary, "version": version})

    def command_line(self, spec: MachineSpec) -> str:
        self._refuse_intel(spec)
        return qemu.command_line(spec)

    def state_key(self, spec: MachineSpec) -> str:
        return qemu.saved_state_key(spec)

    def start(
        self, spec: MachineSpec, deadline: Deadline, restore_from: Path | None = None
    ) -> Instance:
        self._refuse_intel(spec)
        unit = self.unit if spec.icount else Unit.HOST_TIME
        return qemu.start_qemu(spec, deadline, unit, restore_from)

    def _refuse_intel(self, spec: MachineSpec) -> None:
        if spec.cell.vendor is not Vendor.AMD:
            raise EngineUnavailable(
                f"engine tcg cannot do vendor {spec.cell.vendor}: {NO_VTX}; use bochs",
                next_command=USE_BOCHS,
            )
