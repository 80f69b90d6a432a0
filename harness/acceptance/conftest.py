# SPDX-License-Identifier: MIT
"""What the acceptance suite's tests share: modules pushed into guests, a clean slate."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guest_shell import SECONDS, Outcome, Plain, Shell
from host_commands import Finished, run_on_host

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_module
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell

MODULES = Path(__file__).resolve().parent / "modules"
# Of the host: on a busy machine a second of a Bochs guest is many of its own.
COMMAND_SECONDS = 180.0


@pytest.fixture
def dunelab(resting_guests: None) -> Callable[..., Finished]:
    """Run the ``dunelab`` command, with this worker's guests at rest."""

    def run(*words: str, seconds: float = 600.0) -> Finished:
        return run_on_host(sys.executable, "-m", "dunelab.cli.main", *words, seconds=seconds)

    return run


@pytest.fixture
def in_guest(guest: Machine) -> Callable[[str], str]:
    """Run a shell command in the guest, demand success, return its output."""

    def run(command: str) -> str:
        return guest.succeed(command, Deadline.after(COMMAND_SECONDS, f"end of {command!r}"))

    return run


@pytest.fixture
def cpu_state(
    guest_context: Guest, cell: Cell, lab: DuneLab, in_guest: Callable[[str], str]
) -> Iterator[Callable[[], str]]:
    """Read CR4 and EFER of every CPU, through a module made for that."""
    built = lab.module(cell.kernel, MODULES / "cpu_state")
    push_once(guest_context, {"cpu_state.ko": built.path_stripped})
    in_guest("grep -q '^cpu_state ' /proc/modules || insmod /tmp/dunelab/cpu_state.ko")
    yield lambda: in_guest("cat /sys/module/cpu_state/parameters/show")
    in_guest("rmmod cpu_state")


@pytest.fixture
def reloaded(guest: Machine) -> Iterator[None]:
    """Whatever a test did to dune.ko, the next one finds it loaded."""
    yield
    if guest.alive:
        dune_module.load_module(guest)


@pytest.fixture
def shell(guest: Machine) -> Shell:
    """Run shell text in a folder of the guest that is empty before."""

    def run(text: str, run: str = "", seconds: float = SECONDS) -> Outcome:
        folder = "/tmp/shell"  # noqa: S108 - in the guest
        # The parentheses keep the last command from replacing the shell, whose
        # status tells a signal from an exit.
        done = guest.run(
            f"rm -rf {folder} && mkdir {folder} && cd {folder} && (\n{text}\n); exit $?",
            Deadline.after(seconds, f"end of {text!r}"),
            env={"RUN": run},
        )
        return Outcome(done.exit_status, done.stdout, done.stderr)

    return run


@pytest.fixture
def plain(guest_context: Guest, lab: DuneLab) -> Plain:
    """The path in the guest of a program of tests/plain, pushed when first asked for."""

    def path(name: str) -> str:
        program = f"plain/{name}"
        push_once(guest_context, {program: lab.program(program)})
        return f"{GUEST_FOLDER}/{program}"

    return path
