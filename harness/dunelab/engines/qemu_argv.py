# SPDX-License-Identifier: MIT
"""QEMU's command line as a pure function of the machine wanted.

Every option used here exists, with this spelling, from QEMU 5.2 to 11:
boolean chardev options are left at their defaults (the long and short forms
changed in 6.0), and ``-accel``/``-machine`` are not mixed.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from dunelab.engines.base import GUEST_ADDRESS, GUEST_SSH_PORT, require_driver
from dunelab.errors import UsageError
from dunelab.spec import EngineName, MachineSpec

DEFAULT_CPU = {EngineName.TCG: "max", EngineName.KVM: "host"}

NO_BMI2 = "max,-bmi2"
"""The usual CPU of a QEMU before 6, whose BMI2 decompresses a zstd kernel wrongly.

Debian's kernels from 6.12 on are such: the machine resets before its console says
anything.  zstd takes its plain code on a CPU without BMI2.
"""

NETWORK_DRIVER = "virtio_net"

SPARE_CPU = "isolcpus=domain,0"
"""Keeps every process of the guest off CPU 0.

QEMU's TCG runs each CPU in a thread of its own, and an FXRSTOR or XRSTOR on any
of them clears a bit in the flags of CPU 0, neither locked nor atomic
(``cpu_clear_ignne``).  The same word says whether nested paging is on.  So a
VMRUN or #VMEXIT on CPU 0 is undone now and then by a task switch elsewhere:
the guest runs without its second stage, or its host with one.
"""


@dataclass(frozen=True)
class Wiring:
    """How console and monitor reach the harness.

    Both are connected socket pairs handed over by number: nothing to find on
    disk, no path longer than sun_path, no connect race, nothing left behind.
    ``None`` puts the console on the terminal instead, for people.
    """

    console_fd: int | None = None
    qmp_fd: int | None = None


def qemu_argv(
    spec: MachineSpec,
    *,
    cmdline: str,
    wiring: Wiring,
    binary: str = "qemu-system-x86_64",
    incoming: bool = False,
) -> list[str]:
    """The argument vector for ``spec``, kernel command line ``cmdline``."""
    require_driver(spec, NETWORK_DRIVER)
    _require_isolation(spec)
    return [
        binary,
        "-name",
        f"dunelab-{spec.cell}",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-machine",
        "pc",
        *_accelerator(spec),
        "-cpu",
        cpu_model(spec),
        "-smp",
        str(spec.cpus + int(has_spare_cpu(spec))),
        "-m",
        f"{spec.memory_mib}M",
        "-kernel",
        str(spec.image.vmlinuz),
        "-initrd",
        str(spec.image.initrd),
        "-append",
        cmdline,
        *_network(),
        "-object",
        "rng-random,id=rng0,filename=/dev/urandom",
        "-device",
        "virtio-rng-pci,rng=rng0",
        *_disk(spec.image.disk),
        *_wires(wiring),
        *(["-incoming", "defer"] if incoming else []),
    ]


def cpu_model(spec: MachineSpec) -> str:
    """What is asked for, else what the kernel needs, else the engine's usual one."""
    on_tcg = spec.image.tcg_cpu if spec.cell.engine is EngineName.TCG else None
    return spec.cpu_model or on_tcg or DEFAULT_CPU[spec.cell.engine]


def with_cpu_model(spec: MachineSpec, version: str) -> MachineSpec:
    """``spec`` with its CPU model named, as QEMU ``version`` ("5.2.0 (...)") needs it."""
    model = cpu_model(spec)
    if model == DEFAULT_CPU[EngineName.TCG] and int(version.split(".", 1)[0]) < 6:
        model = NO_BMI2
    return replace(spec, cpu_model=model)


def has_spare_cpu(spec: MachineSpec) -> bool:
    """Whether the machine gets one CPU more than asked for, which its programs do not see."""
    return spec.cell.engine is EngineName.TCG and spec.cpus > 1


def _require_isolation(spec: MachineSpec) -> None:
    """Refuse a kernel that would run programs on the spare CPU."""
    if has_spare_cpu(spec) and not spec.image.isolates_cpus:
        raise UsageError(
            f"kernel {spec.image.release} was built without CONFIG_CPU_ISOLATION: with several "
            f"CPUs nothing would keep programs off the one whose flags QEMU's threads overwrite "
            f"(docs/engines.md)",
            next_command="build it with CONFIG_CPU_ISOLATION=y, or run with --cpus 1",
        )


def guest_parameters(spec: MachineSpec) -> tuple[str, ...]:
    """The spec's own kernel parameters, after those its machine needs."""
    return (*((SPARE_CPU,) if has_spare_cpu(spec) else ()), *spec.parameters)


def _accelerator(spec: MachineSpec) -> list[str]:
    if spec.cell.engine is EngineName.KVM:
        if spec.icount:
            raise UsageError("icount counts emulated instructions: it needs the tcg engine")
        return ["-accel", "kvm"]
    if spec.cell.engine is not EngineName.TCG:
        raise UsageError(f"{spec.cell.engine} is not a QEMU engine")
    if not spec.icount:
        return ["-accel", "tcg,thread=multi"]
    if spec.cpus != 1:
        # QEMU: "No MTTCG when icount is enabled"; with several CPUs in one
        # thread the round-robin switch points would decide the figures.
        raise UsageError(f"icount needs a machine with one CPU, not {spec.cpus}")
    return ["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]


def _network() -> list[str]:
    # Host port 0: slirp binds a free one, asked for afterwards ("info
    # usernet"), so there is no port to race for.  restrict: the guest has no
    # business on the network; forwarded ports work all the same.  No option
    # ROM: it costs boot time and a package.
    forward = f"hostfwd=tcp:127.0.0.1:0-{GUEST_ADDRESS}:{GUEST_SSH_PORT}"
    return [
        "-netdev",
        f"user,id=net0,restrict=on,{forward}",
        "-device",
        "virtio-net-pci,netdev=net0,romfile=",
    ]


def _disk(path: Path | None) -> list[str]:
    """The full guest's root, which any number of machines may read at once."""
    if path is None:
        return []
    # A comma in an option's value is written twice.
    escaped = str(path).replace(",", ",,")
    return [
        "-drive",
        f"if=none,id=root,format=raw,readonly=on,file={escaped}",
        "-device",
        "virtio-blk-pci,drive=root",
    ]


def _wires(wiring: Wiring) -> list[str]:
    if wiring.console_fd is None or wiring.qmp_fd is None:
        return ["-serial", "mon:stdio"]
    return [
        "-chardev",
        f"socket,id=console,fd={wiring.console_fd}",
        "-serial",
        "chardev:console",
        "-chardev",
        f"socket,id=qmp,fd={wiring.qmp_fd}",
        "-mon",
        "chardev=qmp,mode=control",
    ]


def state_key(spec: MachineSpec, *, cmdline: str, version: str) -> str:
    """Names a saved state: any difference in hardware, image or QEMU changes it."""
    shape = qemu_argv(spec, cmdline=cmdline, wiring=Wiring(0, 1))
    text = "\0".join([spec.image.digest, version, *shape])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def shell_text(argv: list[str]) -> str:
    """The vector as one would type it, an option per line."""
    lines: list[str] = [shlex.quote(argv[0])]
    for word in argv[1:]:
        quoted = shlex.quote(word)
        if word.startswith("-"):
            lines.append(quoted)
        else:
            lines[-1] += f" {quoted}"
    return " \\\n  ".join(lines)
