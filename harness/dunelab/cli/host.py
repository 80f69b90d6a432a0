# SPDX-License-Identifier: MIT
"""What this machine has: cores, memory, disk, tools.  For ``dunelab doctor``."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from dunelab.engines import qemu

GUEST_MIB = 768
"""Host memory to count per guest: 512 MiB of its own and its emulator's."""

DISK_NEEDED_MIB = 4096
"""A filled cache: builder root, two kernels, images, the emulator, saved states."""


@dataclass(frozen=True)
class Need:
    """One thing that has to be here, and how to get it."""

    name: str
    why: str
    ok: bool
    next_command: str | None = None


@dataclass(frozen=True)
class Host:
    """The machine in figures."""

    cores: int
    memory_available_mib: int
    disk_free_mib: int
    cache: Path
    workers: int


def survey_host(cache: Path) -> Host:
    """Measure the machine; ``cache`` is where images go."""
    cores = len(os.sched_getaffinity(0))
    memory = _memory_available_mib(Path("/proc/meminfo").read_text())
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    disk = shutil.disk_usage(existing).free >> 20
    return Host(cores, memory, disk, cache, recommended_workers(cores, memory))


def recommended_workers(cores: int, memory_mib: int) -> int:
    """A value for ``pytest -n``: an emulator burns a core whatever its guest does."""
    return max(1, min(cores, memory_mib // GUEST_MIB))


def needs(host: Host) -> list[Need]:
    """Everything the bench wants from the machine outside of Python."""
    found = [
        Need(
            qemu.BINARY,
            "engines tcg and kvm",
            qemu.find_binary() is not None,
            None if qemu.find_binary() else qemu.INSTALL,
        ),
        _tool("setpriv", "emulators that die with the harness", "util-linux"),
        _tool("mmdebstrap", "the builder root", "mmdebstrap"),
    ]
    enough = host.disk_free_mib >= DISK_NEEDED_MIB
    found.append(
        Need(
            "disk",
            f"{DISK_NEEDED_MIB} MiB for the cache in {host.cache}, {host.disk_free_mib} MiB free",
            enough,
            None if enough else "dunelab prune, or set XDG_CACHE_HOME to a larger disk",
        )
    )
    found.append(_user_namespaces())
    return found


def _tool(name: str, why: str, package: str) -> Need:
    there = shutil.which(name) is not None
    command = f"sudo apt-get install --no-install-recommends {package}"
    return Need(name, why, there, None if there else command)


def _user_namespaces() -> Need:
    why = "builds as an ordinary user"
    if os.getuid() == 0:
        return Need("user namespaces", f"{why} (not needed: this is root)", True)
    for knob, wanted, command in (
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "1",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "0",
            "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ):
        path = Path(knob)
        if path.exists() and path.read_text().strip() != wanted:
            return Need("user namespaces", f"{why}; {knob} forbids them", False, command)
    return Need("user namespaces", why, True)


def _memory_available_mib(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0
