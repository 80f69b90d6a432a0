# SPDX-License-Identifier: MIT
"""Loading and unloading dune.ko in a running guest, and what it leaves behind."""

from __future__ import annotations

import re
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.errors import DunelabError, EngineUnavailable, InfrastructureError
from dunelab.spec import CommandResult, EngineFacts, EngineName

MODULE = "dune"
MODULE_PATH = "/lib/modules/$(uname -r)/dune.ko"
DEVICE = "/dev/dune"

LEAKS = "/sys/kernel/debug/kmemleak"
LOCKDEP = "/proc/lockdep_stats"

_SECONDS = 30.0
_SCAN_SECONDS = 300.0
_TAIL_LINES = 25


class Guest(Protocol):
    """What is needed of a ``dunelab.machine.machine.Machine``."""

    @property
    def facts(self) -> EngineFacts: ...

    def run(self, command: str, deadline: Deadline) -> CommandResult: ...


class ModuleRefused(DunelabError):
    """The kernel would not load or unload the module; the text says what it logged."""


def check_emulator(facts: EngineFacts) -> None:
    """Refuse the QEMU whose second stage does not work: docs/engines.md says how.

    Its guests boot, and other modules than dune.ko can be tested on it.
    """
    version = re.match(r"QEMU (\d+)\.", facts.version)
    if facts.engine is EngineName.TCG and version and int(version[1]) < 6:
        raise EngineUnavailable(
            f"{facts.version} cannot execute a Dune process: its second stage of page tables has "
            "four levels whatever the kernel has, and a page in it that is not executable ends "
            "the emulator (docs/engines.md)",
            next_command="dunelab build --qemu bookworm, and DUNELAB_QEMU=what it prints",
        )


def load_module(machine: Guest, parameters: str = "") -> None:
    """Load dune.ko, unless it is loaded; returns when /dev/dune is there.

    Raises EngineUnavailable on an emulator that cannot execute a Dune process.
    """
    check_emulator(machine.facts)
    status = machine.run(
        f"grep -q '^{MODULE} ' /proc/modules && exit 0\n"
        f"[ -e {MODULE_PATH} ] || exit 99\n"
        f"insmod {MODULE_PATH} {parameters} || exit 98\n"
        f"[ -c {DEVICE} ] || exit 97",
        Deadline.after(_SECONDS, "end of insmod"),
    )
    if status.exit_status == 0:
        return
    if status.exit_status == 99:
        raise InfrastructureError(
            f"the guest image has no {MODULE_PATH}", next_command="dunelab build"
        )
    what = {
        98: f"insmod {MODULE}.ko failed: {status.stderr.strip()}",
        97: f"{MODULE}.ko is loaded but there is no {DEVICE}",
    }.get(status.exit_status, f"loading {MODULE}.ko failed: {status.stderr.strip()}")
    raise _refused(machine, what)


def unload_module(machine: Guest) -> None:
    """Unload dune.ko; an error when it is in use."""
    result = machine.run(f"rmmod {MODULE}", Deadline.after(_SECONDS, "end of rmmod"))
    if result.exit_status != 0:
        raise _refused(machine, f"rmmod {MODULE} failed: {result.stderr.strip()}")


def _refused(machine: Guest, what: str) -> ModuleRefused:
    log = machine.run(f"dmesg | tail -n {_TAIL_LINES}", Deadline.after(_SECONDS, "dmesg")).stdout
    return ModuleRefused(f"{what}\nthe kernel said:\n{log.rstrip()}")


def leaks(machine: Guest) -> str:
    """kmemleak's report, empty if nothing leaked; only for kernels that have ``LEAKS``.

    An object is reported that is five seconds old and did not change from one scan
    to the next.  What the module lost is found once it is unloaded at the latest:
    then nothing of its own points anywhere.
    """
    found = machine.run(
        f"echo scan >{LEAKS} && sleep 6 && echo scan >{LEAKS} && cat {LEAKS}",
        Deadline.after(_SCAN_SECONDS, "kmemleak's scans"),
    )
    if found.exit_status != 0:
        raise InfrastructureError(f"kmemleak did not scan: {found.stderr.strip()}")
    return found.stdout


def locks_are_watched(machine: Guest) -> bool:
    """Whether lockdep still works: it stops at its first complaint, or when it is full."""
    state = machine.run(f"grep debug_locks: {LOCKDEP}", Deadline.after(_SECONDS, "lockdep's state"))
    return state.exit_status == 0 and state.stdout.split()[-1] == "1"


def last_check(machine: Guest) -> str:
    """What a debug kernel has to say at the end of a guest: complaints, or nothing."""
    complaints = []
    # Before the module goes the report has its functions' names.
    for when in ("with the module loaded", "after it was unloaded"):
        found = leaks(machine)
        if found:
            complaints.append(f"kmemleak, {when}:\n{found}")
            break
        machine.run(f"rmmod {MODULE}", Deadline.after(_SECONDS, "end of rmmod"))
    if not locks_are_watched(machine):
        complaints.append(f"lockdep is off ({LOCKDEP}): it has complained, or its tables are full")
    return "\n".join(complaints)
