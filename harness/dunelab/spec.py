# SPDX-License-Identifier: MIT
"""The nouns of the bench: vendor, cell, guest image, machine.

Frozen values only.  Nothing here does I/O and nothing here knows of Dune.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class EngineName(StrEnum):
    """What executes the guest."""

    KVM = "kvm"
    TCG = "tcg"
    BOCHS = "bochs"


class Vendor(StrEnum):
    """Whose virtualisation extension the guest sees: VT-x or SVM."""

    INTEL = "intel"
    AMD = "amd"


class ImageKind(StrEnum):
    """What a guest's root is: busybox in memory, or a Debian root on a disk."""

    SMALL = "small"
    FULL = "full"

    @property
    def memory_mib(self) -> int:
        """The memory that it needs; a kernel may need more (``GuestImage.memory_mib``)."""
        return 1024 if self is ImageKind.FULL else 512


class Unit(StrEnum):
    """Emulators count instructions, hardware counts cycles; never mixed.

    Where QEMU TCG does not count instructions (``-icount``, one CPU) its time stamp
    counter is the host's clock: what is measured in it says how busy the host was.
    """

    TICKS = "ticks"
    CYCLES = "cycles"
    HOST_TIME = "host time"


@dataclass(frozen=True, order=True)
class Cell:
    """One point of the matrix: engine x vendor x kernel id of kernels.toml."""

    engine: EngineName
    vendor: Vendor
    kernel: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.vendor}-{self.kernel}"


@dataclass(frozen=True)
class GuestImage:
    """What an engine needs to boot, made by ``dunelab.images``.

    ``iso`` is there for engines without a direct kernel loader (Bochs).
    ``disk`` is the read-only root of the full kind.
    ``drivers`` are the network drivers that the kernel has, of those guest.toml names.
    ``isolates_cpus``: its kernel can keep programs off a CPU (``isolcpus=``).
    ``tcg_cpu`` is QEMU's CPU on tcg, where the usual one does not do.
    ``append_on`` are kernel parameters, each with the CPU model on which it is needed.
    ``extra_mib`` is what its kernel needs on top of the usual memory.
    ``digest`` covers every byte that can change the guest's behaviour.
    """

    kernel: str
    release: str
    vmlinuz: Path
    initrd: Path
    iso: Path | None
    ssh_user: str
    ssh_key: Path
    digest: str
    kind: ImageKind = ImageKind.SMALL
    disk: Path | None = None
    drivers: tuple[str, ...] = ("e1000", "virtio_net")
    isolates_cpus: bool = True
    tcg_cpu: str | None = None
    append_on: tuple[tuple[str, str], ...] = ()
    extra_mib: int = 0

    @property
    def memory_mib(self) -> int:
        """The memory its machine gets unless more or less is asked for."""
        return self.kind.memory_mib + self.extra_mib


@dataclass(frozen=True)
class MachineSpec:
    """One machine to start."""

    cell: Cell
    image: GuestImage
    workdir: Path
    cpus: int = 2
    memory_mib: int = 512
    cpu_model: str | None = None
    icount: bool = False
    append: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The kernel's: what it needs on this CPU model, then the machine's own."""
        needed = (word for model, word in self.image.append_on if model == self.cpu_model)
        return (*needed, *self.append)


@dataclass(frozen=True)
class EngineFacts:
    """What really ran: stamped on every result."""

    engine: EngineName
    accelerator: str
    version: str
    vendor: Vendor
    cpu_model: str
    unit: Unit


@dataclass(frozen=True)
class CommandResult:
    """A command that ran in a guest and ended."""

    argv: str
    exit_status: int
    stdout: str
    stderr: str
    seconds: float
