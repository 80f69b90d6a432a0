# SPDX-License-Identifier: MIT
"""A module that is refused, and what it leaves behind: the right words."""

from __future__ import annotations

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.guest import ModuleRefused, last_check, load_module, unload_module
from dunelab.errors import EngineUnavailable, InfrastructureError
from dunelab.spec import CommandResult, EngineFacts, EngineName, Unit, Vendor


class Guest:
    """Answers every command with one status, and dmesg with text."""

    def __init__(self, status: int, stderr: str = "", qemu: str = "QEMU 7.2.0") -> None:
        self.status = status
        self.stderr = stderr
        self.facts = EngineFacts(EngineName.TCG, "tcg", qemu, Vendor.AMD, "max", Unit.TICKS)
        self.commands: list[str] = []

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        self.commands.append(command)
        if command.startswith("dmesg"):
            return CommandResult(command, 0, "dune: SVM is disabled by firmware\n", "", 0)
        return CommandResult(command, self.status, "", self.stderr, 0)


def test_loading() -> None:
    guest = Guest(0)
    load_module(guest)
    assert "insmod /lib/modules/$(uname -r)/dune.ko" in guest.commands[0]


def test_a_refusal_quotes_insmod_and_the_kernel() -> None:
    with pytest.raises(ModuleRefused) as caught:
        load_module(Guest(98, "insmod: can't insert: Operation not supported\n"))
    assert "Operation not supported" in str(caught.value)
    assert "SVM is disabled by firmware" in str(caught.value)


def test_a_missing_module_is_the_benchs_fault() -> None:
    with pytest.raises(InfrastructureError, match=r"no /lib/modules") as caught:
        load_module(Guest(99))
    assert caught.value.next_command == "dunelab build"


def test_a_module_without_its_device() -> None:
    with pytest.raises(ModuleRefused, match="no /dev/dune"):
        load_module(Guest(97))


def test_an_emulator_that_cannot_is_not_asked_to() -> None:
    for version in ("QEMU 5.2.0 (Debian 1:5.2)", "QEMU 4.2.1"):
        guest = Guest(0, qemu=version)
        with pytest.raises(EngineUnavailable, match="second stage") as caught:
            load_module(guest)
        assert not guest.commands
        assert "dunelab build --qemu" in str(caught.value)
    load_module(Guest(0, qemu="QEMU 10.0.2"))


def test_an_unload_while_in_use() -> None:
    with pytest.raises(ModuleRefused, match="rmmod dune failed: Resource busy"):
        unload_module(Guest(1, "Resource busy"))


class DebugGuest:
    """A guest of a debug kernel: kmemleak reports once dune.ko is as ``leaks_when`` says."""

    def __init__(self, leaks_when: str = "", debug_locks: int = 1) -> None:
        self.leaks_when = leaks_when
        self.debug_locks = debug_locks
        self.state = "loaded"

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        said = ""
        if command.startswith("rmmod"):
            self.state = "unloaded"
        elif "kmemleak" in command and self.state == self.leaks_when:
            said = f"unreferenced object, {self.state}"
        elif "lockdep" in command:
            said = f" debug_locks:     {self.debug_locks}\n"
        return CommandResult(command, 0, said, "", 0)


@pytest.mark.parametrize(
    ("guest", "complaint"),
    [
        (DebugGuest(), ""),
        (DebugGuest("loaded"), "with the module loaded:\nunreferenced object, loaded"),
        (DebugGuest("unloaded"), "after it was unloaded:\nunreferenced object, unloaded"),
        (DebugGuest(debug_locks=0), "lockdep is off"),
    ],
)
def test_the_last_check_of_a_debug_kernel(guest: DebugGuest, complaint: str) -> None:
    assert complaint in (found := last_check(guest))
    assert bool(found) == bool(complaint)


def test_a_scan_that_fails_is_the_benchs_fault() -> None:
    with pytest.raises(InfrastructureError, match="kmemleak did not scan: no such file"):
        last_check(Guest(1, "no such file"))
