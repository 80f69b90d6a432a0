# SPDX-License-Identifier: MIT
"""The seam between the plugin and what boots guests.

The plugin needs little: which kernels exist, which engine ``auto`` means, a
booted machine with dune.ko loaded, and the compiled programs.  ``Lab`` says so;
``dunelab.dune.lab`` is the real one, and the plugin's own tests bring another
through the hook ``pytest_dunelab_lab``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.pytest_support.header import Variant
from dunelab.spec import Cell, CommandResult, EngineFacts, EngineName, Vendor


class ConsoleText(Protocol):
    """What is read of a serial console."""

    def text(self) -> str: ...

    def mark(self) -> int: ...

    def since(self, mark: int) -> str: ...


class GuestMachine(Protocol):
    """What is used of a ``dunelab.machine.Machine``."""

    @property
    def console(self) -> ConsoleText: ...

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def alive(self) -> bool: ...

    @property
    def boot_seconds(self) -> float: ...

    def run(
        self, command: str, deadline: Deadline, env: Mapping[str, str] | None = None
    ) -> CommandResult: ...

    def push(self, local: Path, remote: str, mode: int = 0o755) -> None: ...

    def mark(self, text: str) -> int: ...

    def wait_for_console(self, pattern: str, deadline: Deadline, since: int = 0) -> str: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def power_off(self, deadline: Deadline | None = None) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True)
class Builds:
    """What was built for a kernel and how to recognise it later.

    ``symbols`` maps a module's name to its unstripped file.
    """

    release: str
    module_build_id: str | None
    libdune_build_id: str | None
    symbols: Mapping[str, Path]
    kernel_package: str = ""
    compiler: str = ""


@dataclass(frozen=True)
class Verdict:
    """Whether an engine works here, and what to type when it does not."""

    ok: bool
    reason: str
    next_command: str | None = None


@dataclass(frozen=True)
class Booted:
    """A guest that is up.  ``dispose`` removes its folder once it has ended.

    ``again`` says why it had to be started a second time, if it had to.
    ``last_check`` looks at a guest that is fit for use and about to end: what it
    returns are complaints, which count as a failure after the last test.
    """

    machine: GuestMachine
    builds: Builds
    engine_log: Path | None
    command_line: str
    workdir: Path
    ssh_command: str = ""
    again: str = ""
    dispose: Callable[[], None] = lambda: None
    last_check: Callable[[], str] = lambda: ""


class Lab(Protocol):
    """Everything the plugin asks of the rest of the package."""

    def kernels(self) -> tuple[str, ...]: ...

    def kernel_id(self, word: str) -> str: ...

    def is_own_kernel(self, kernel: str) -> bool: ...

    def default_kernel(self) -> str: ...

    def pick(self, vendor: Vendor) -> EngineName: ...

    def host_vendors(self) -> tuple[Vendor, ...]: ...

    def check(self, engine: EngineName, vendor: Vendor) -> Verdict: ...

    def boot(self, cell: Cell, variant: Variant, *, fresh: bool) -> Booted: ...

    def program(self, name: str) -> Path: ...

    def libraries(self) -> tuple[Path, ...]: ...
