# SPDX-License-Identifier: MIT
"""Whether /dev/kvm exists, is ours, works, and nests: measured, within seconds.

The file's existence says nothing.  There are machines where it opens, creates
virtual machines, and then hangs the first one with the host kernel at full
load, or offers neither vmx nor svm.  So the question is put by a child that
can be abandoned, and where nesting is promised a guest of two instructions has
to run as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.engines import kvm_query
from dunelab.engines.qemu import BINARY, find_binary
from dunelab.spec import Vendor

DEVICE = Path("/dev/kvm")

QUERY_SECONDS = 1.0
RUN_SECONDS = 3.0

UDEV_RULE = (
    'echo \'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"\' | '
    "sudo tee /etc/udev/rules.d/99-kvm4all.rules && sudo udevadm control --reload-rules && "
    "sudo udevadm trigger --name-match=kvm"
)
JOIN_GROUP = 'sudo usermod -aG kvm "$USER" && exec newgrp kvm'
LOAD_MODULE = "sudo modprobe kvm_intel nested=1 || sudo modprobe kvm_amd nested=1"
USE_EMULATOR = "dunelab exec --engine auto -- uname -r"
RELOAD_NESTED = {
    Vendor.INTEL: "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel nested=1",
    Vendor.AMD: "sudo modprobe -r kvm_amd && sudo modprobe kvm_amd nested=1",
}

_EXIT_PORT = 0xF4
_EXIT_STATUS = 0x2A << 1 | 1
"""isa-debug-exit ends QEMU with (value << 1) | 1."""


@dataclass(frozen=True)
class KvmVerdict:
    """What /dev/kvm turned out to be.

    ``nests`` is the vendor whose extension a guest can use, None when there is
    none; ``reason`` says why in one sentence.
    """

    nests: Vendor | None
    reason: str
    next_command: str | None = None
    host_vendor: str = ""

    @property
    def mendable(self) -> bool:
        """Whether the next command mends it, or only names what to use instead."""
        return self.next_command != USE_EMULATOR


@dataclass(frozen=True)
class ChildAnswer:
    """How a probing child ended: ``status`` None means it had to be given up."""

    status: int | None
    output: str


def probe(
    device: Path = DEVICE,
    *,
    query: Sequence[str] | None = None,
    run: Sequence[str] | None = None,
    query_seconds: float = QUERY_SECONDS,
    run_seconds: float = RUN_SECONDS,
) -> KvmVerdict:
    """Ask ``device``.  ``query`` and ``run`` replace the probing children (for tests).

    Takes at most the two deadlines and a little, even when the kernel never
    gives a child back.
    """
    if not device.exists():
        return KvmVerdict(None, f"{device} does not exist", LOAD_MODULE)
    if not os.access(device, os.R_OK | os.W_OK):
        return KvmVerdict(None, f"{device} may not be opened by this user", _access_command(device))
    asked = bounded(query or [sys.executable, "-I", kvm_query.__file__, str(device)], query_seconds)
    if asked.status is None:
        return KvmVerdict(
            None, f"{device} hangs: no answer to a query within {query_seconds:g} s", USE_EMULATOR
        )
    try:
        answer = json.loads(asked.output)
    except ValueError:
        return KvmVerdict(None, f"{device}: the query failed: {asked.output.strip()}", USE_EMULATOR)
    verdict = judge(device, answer)
    if verdict.nests is None:
        return verdict
    return _try_run(device, verdict, run, run_seconds)


def judge(device: Path, answer: Mapping[str, object]) -> KvmVerdict:
    """A verdict on the child's answer, before anything ran."""
    if "errno" in answer:
        return KvmVerdict(None, f"{device} cannot be used: {answer['errno']}", USE_EMULATOR)
    vendor = str(answer.get("vendor", ""))
    if answer.get("vmx"):
        return KvmVerdict(Vendor.INTEL, f"{device} offers nested VT-x", None, vendor)
    if answer.get("svm"):
        return KvmVerdict(Vendor.AMD, f"{device} offers nested SVM", None, vendor)
    own = {"GenuineIntel": Vendor.INTEL, "AuthenticAMD": Vendor.AMD}.get(vendor)
    hint = RELOAD_NESTED[own] if own and _host_has_extension() else USE_EMULATOR
    return KvmVerdict(
        None,
        f"{device} works but does not nest: KVM_GET_SUPPORTED_CPUID shows neither vmx nor svm",
        hint,
        vendor,
    )


def _try_run(
    device: Path, promised: KvmVerdict, run: Sequence[str] | None, seconds: float
) -> KvmVerdict:
    with tempfile.TemporaryDirectory(prefix="dunelab-probe-") as folder:
        rom = Path(folder) / "probe.rom"
        rom.write_bytes(probe_rom())
        ran = bounded(run or run_argv(rom, "kvm", "host"), seconds)
    if ran.status == _EXIT_STATUS:
        return promised
    if ran.status is None:
        why = f"a guest of two instructions did not end within {seconds:g} s"
    else:
        why = f"a guest of two instructions failed: {ran.output.strip() or ran.status}"
    return KvmVerdict(
        None, f"{device} promises nesting, but {why}", USE_EMULATOR, promised.host_vendor
    )


def run_argv(rom: Path, accelerator: str, cpu: str) -> list[str]:
    """QEMU with nothing but a CPU, a ROM and a way out."""
    return [
        *(find_binary() or BINARY, "-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", "pc", "-accel", accelerator, "-cpu", cpu, "-m", "16M"),
        *("-device", f"isa-debug-exit,iobase={_EXIT_PORT:#x},iosize=0x1", "-bios", str(rom)),
    ]


def probe_rom() -> bytes:
    """64 KiB whose reset vector, 16 bytes before the end, leaves through the port."""
    code = bytes(
        [
            0xB0,
            _EXIT_STATUS >> 1,  # mov al, value
            0xE6,
            _EXIT_PORT,  # out port, al
            0xF4,  # hlt
        ]
    )
    return b"\xf4" * (0x10000 - 16) + code.ljust(16, b"\xf4")


def bounded(argv: Sequence[str], seconds: float) -> ChildAnswer:
    """Run a child for at most ``seconds``; one the kernel holds is left behind.

    A process inside a hanging ioctl survives SIGKILL until the ioctl returns.
    Waiting for it would pass the hang on to the caller.
    """
    with tempfile.TemporaryFile() as output:
        try:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            return ChildAnswer(127, f"cannot start {argv[0]}: {error}")
        status: int | None = None
        try:
            status = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _give_up(child)
        output.seek(0)
        return ChildAnswer(status, output.read().decode("utf-8", "replace"))


def _give_up(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=0.2)


def _access_command(device: Path) -> str:
    try:
        group = device.group()
        mode = device.stat().st_mode
    except (OSError, KeyError):
        return UDEV_RULE
    return JOIN_GROUP if group == "kvm" and mode & 0o060 == 0o060 else UDEV_RULE


def _host_has_extension() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "vmx" in flags or "svm" in flags
