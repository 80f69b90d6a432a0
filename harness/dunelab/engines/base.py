# SPDX-License-Identifier: MIT
"""The two protocols every engine speaks: ``Engine`` starts, ``Instance`` runs.

An engine is a small driver with no state of its own.  An instance is one
running guest.  Nothing here knows what is inside the guest beyond a serial
console and an SSH server on port 22.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError, UsageError
from dunelab.spec import EngineFacts, EngineName, MachineSpec, Unit, Vendor

GUEST_ADDRESS = "10.0.2.15"
"""The guest's static address in the user network of QEMU and of Bochs."""

GUEST_SSH_PORT = 22


def require_driver(spec: MachineSpec, driver: str) -> None:
    """Refuse a kernel that would not see the machine's only network card."""
    if driver not in spec.image.drivers:
        raise UsageError(
            f"kernel {spec.image.release} has no {driver}, the driver of the only network card "
            f"of {spec.cell.engine}'s machine",
            next_command="use another engine, or a kernel that has it: dunelab kernels",
        )


@dataclass(frozen=True)
class Availability:
    """Whether an engine can offer a vendor's extension on this machine.

    ``facts`` is what was looked at, for ``dunelab doctor``; ``reason`` says in
    one sentence why not (or what was found), ``next_command`` what to type:
    what mends it, or, where nothing on this machine can (``mendable`` is
    False), what to use instead.
    """

    ok: bool
    reason: str
    next_command: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    mendable: bool = True


class Instance(Protocol):
    """One running guest, as its engine sees it."""

    @property
    def facts(self) -> EngineFacts:
        """What really runs, read back from the engine, not from the request."""
        ...

    @property
    def console_fd(self) -> int:
        """A descriptor to read the serial console from and to write to it."""
        ...

    @property
    def ssh_address(self) -> tuple[str, int]:
        """Host and port that reach the guest's SSH server."""
        ...

    @property
    def engine_log(self) -> Path:
        """What the emulator itself said (its stderr, or Bochs' own log)."""
        ...

    @property
    def pid(self) -> int: ...

    def diagnostics(self) -> str:
        """The end of the engine's own output: goes into failure texts."""
        ...

    def poll(self) -> int | None:
        """The exit status of the engine's process, None while it runs."""
        ...

    def wait(self, deadline: Deadline) -> int:
        """Wait for the process to end by itself (the guest powered off)."""
        ...

    def power_off(self, deadline: Deadline) -> None:
        """End the machine from outside, in the gentlest way the engine has."""
        ...

    def kill(self) -> None:
        """End it at once.  Never fails, may be called twice."""
        ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def save(self, path: Path, deadline: Deadline) -> None:
        """Write the machine's state to ``path``; the guest runs on afterwards."""
        ...


class Engine(Protocol):
    """A way to execute a guest."""

    @property
    def name(self) -> EngineName: ...

    @property
    def vendors(self) -> tuple[Vendor, ...]:
        """The extensions this engine can ever offer, preferred one first."""
        ...

    @property
    def unit(self) -> Unit: ...

    @property
    def can_save(self) -> bool: ...

    def check(self, vendor: Vendor) -> Availability:
        """Measure, within seconds, whether this works here."""
        ...

    def command_line(self, spec: MachineSpec) -> str:
        """What would be started, as text fit for a shell."""
        ...

    def state_key(self, spec: MachineSpec) -> str:
        """A digest of everything a saved state depends on."""
        ...

    def start(
        self, spec: MachineSpec, deadline: Deadline, restore_from: Path | None = None
    ) -> Instance: ...


class EngineFailed(InfrastructureError):
    """An emulator refused to start or stopped talking."""


def with_vendor(spec: MachineSpec, vendor: Vendor) -> MachineSpec:
    """The same machine with the other vendor's extension."""
    return dataclasses.replace(spec, cell=dataclasses.replace(spec.cell, vendor=vendor))
