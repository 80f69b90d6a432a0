# SPDX-License-Identifier: MIT
"""Bochs' configuration files as pure functions of the machine wanted.

The options and the traps behind them are described in docs/engines.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dunelab.engines.base import GUEST_ADDRESS, GUEST_SSH_PORT, require_driver
from dunelab.errors import UsageError
from dunelab.spec import MachineSpec, Vendor

DEFAULT_CPU = {Vendor.INTEL: "corei7_skylake_x", Vendor.AMD: "ryzen"}

NETWORK_DRIVER = "e1000"
GUEST_MAC = "52:54:00:12:34:56"

INSTRUCTIONS_PER_SECOND = 200_000_000
"""Emulated instructions per emulated second (``ips``).

About what Bochs reaches on a desktop, so that a busy guest's clock runs near
the wall clock.  With Bochs' default of 4 million an idle guest lives through
1,000 seconds in one of ours, its servers' time limits included, and its timer
interrupts every few thousand instructions.
"""

_BIG_GUEST_MIB = 2048


@dataclass(frozen=True)
class BochsFiles:
    """The paths a configuration names."""

    iso: Path
    share: Path
    slirp: Path
    log: Path
    console: Path

    @property
    def journal(self) -> Path:
        """What Bochs calls the file that takes a volatile disk's writes."""
        return self.log.with_name("disk-writes")


def bochs_rc(spec: MachineSpec, files: BochsFiles, *, display: str = "nogui") -> str:
    """The text of bochsrc."""
    require_driver(spec, NETWORK_DRIVER)
    for path in (files.iso, files.share, files.slirp, files.log, files.console, spec.image.disk):
        if path is not None:
            _plain(path)
    lines = [
        f"display_library: {display}",
        *_memory(spec.memory_mib),
        f'romimage: file="{files.share / "BIOS-bochs-latest"}"',
        f'vgaromimage: file="{files.share / "VGABIOS-lgpl-latest"}"',
        # Instructions in a CPU's turn, and the ticks a halted one is said to have
        # used in it.  32 is the most there is: fewer turns for the same work.
        f"cpu: model={cpu_model(spec)}, count={spec.cpus}, quantum=32, "
        f"ips={INSTRUCTIONS_PER_SECOND}, reset_on_triple_fault=0",
        # Time passes with instructions, so a result does not depend on how
        # busy the host is, and an idle guest's sleep takes no wall time.
        "clock: sync=none, time0=utc",
        "pci: enabled=1, chipset=i440fx, slot1=e1000",
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14",
        *_disk(spec, files),
        f'ata0-master: type=cdrom, path="{files.iso}", status=inserted',
        "boot: cdrom",
        f'com1: enabled=1, mode=file, dev="{files.console}"',
        f'e1000: card=0, enabled=1, mac={GUEST_MAC}, ethmod=slirp, script="{files.slirp}"',
        f'log: "{files.log}"',
        # A guest that powers off is a "panic" to Bochs; fatal ends the process.
        "panic: action=fatal",
        "error: action=report",
        "info: action=report",
        "debug: action=ignore",
        "speaker: enabled=0",
    ]
    return "\n".join(lines) + "\n"


def slirp_conf(port: int) -> str:
    """The network's configuration: host port ``port`` leads to the guest's SSH.

    Without the first line Bochs ignores the whole file and says nothing.
    ``restricted`` keeps the guest off the network; forwarding works all the same.
    """
    return (
        "# slirp config\n"
        "restricted = 1\n"
        "ipv6_enabled = 0\n"
        f"hostfwd = tcp:127.0.0.1:{port}-{GUEST_ADDRESS}:{GUEST_SSH_PORT}\n"
    )


def cpu_model(spec: MachineSpec) -> str:
    """The CPU model: the spec's, else the vendor's default."""
    if spec.icount:
        raise UsageError("Bochs always counts instructions: icount is an option of tcg")
    return spec.cpu_model or DEFAULT_CPU[spec.cell.vendor]


def _memory(mebibytes: int) -> list[str]:
    if mebibytes <= _BIG_GUEST_MIB:
        return [f"memory: guest={mebibytes}, host={mebibytes}"]
    # Bochs swaps what exceeds its host buffer to a file of its own.
    return [f"memory: guest={mebibytes}, host={_BIG_GUEST_MIB}"]


def _disk(spec: MachineSpec, files: BochsFiles) -> list[str]:
    """The second ATA channel: the full guest's root, or nothing.

    Mode "flat" opens the file for writing and puts a lock file beside it;
    "volatile" only reads it, and needs a place for what nobody writes.  The
    BIOS need not look at the disk: it is not booted from.
    """
    if spec.image.disk is None:
        return ["ata1: enabled=0"]
    return [
        "ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15",
        f'ata1-master: type=disk, mode=volatile, path="{spec.image.disk}", '
        f'journal="{files.journal}", cylinders=0, heads=16, spt=63, biosdetect=none',
    ]


def _plain(path: Path) -> None:
    # bochsrc has no escape for these in a quoted path.
    if any(character in str(path) for character in '"\n'):
        raise UsageError(f"Bochs cannot use a path with a quote or a line break: {path!s}")
