# SPDX-License-Identifier: MIT
"""The kernel matrix: images/kernels.toml as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dunelab.errors import UsageError
from dunelab.images.recipes import Table

_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")
_NUMBERS = re.compile(r"\d+")
# Debian's name of the flavour that needs no word of its own.
PLAIN = "amd64"


@dataclass(frozen=True)
class KernelEntry:
    """One kernel to build for and to boot.

    Exactly one of ``series`` ("6.12": the newest of it) and ``release``
    ("6.12.107+deb13": this one) is set.
    """

    id: str
    suite: str
    flavour: str
    series: str | None
    release: str | None
    # QEMU's CPU where the usual one does not do.
    tcg_cpu: str | None = None
    # Kernel parameters, each with the CPU model on which it is needed.
    append_on: tuple[tuple[str, str], ...] = ()
    # What a guest needs on top of the usual memory.
    memory_mib: int = 0

    @property
    def wanted(self) -> str:
        """What is asked for, in words."""
        version = self.release or f"{self.series}.*"
        return f"{version}-{self.flavour} in {self.suite}"

    @property
    def version(self) -> tuple[int, ...]:
        """For sorting: (6, 12) of the series "6.12", the same of the release "6.12.107+deb13"."""
        return tuple(int(part) for part in _NUMBERS.findall(self.series or self.release or "")[:2])


@dataclass(frozen=True)
class Lost:
    """Kernels that nothing can be built for, and why."""

    series: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Matrix:
    """All kernels, and the one used when none is named."""

    kernels: tuple[KernelEntry, ...]
    default: str
    lost: tuple[Lost, ...] = ()

    def get(self, kernel_id: str | None = None) -> KernelEntry:
        """The entry of this id; without an id, the default."""
        wanted = kernel_id or self.default
        for entry in self.kernels:
            if entry.id == wanted:
                return entry
        raise UsageError(
            f"no kernel '{wanted}' in kernels.toml; there are: "
            + ", ".join(entry.id for entry in self.kernels),
            next_command="dunelab kernels",
        )

    @classmethod
    def read(cls, path: Path) -> Matrix:
        """Parse and check kernels.toml."""
        table = Table.read(path)
        default = table.text("default")
        kernels = tuple(entry for item in table.tables("kernel") for entry in _entries(item))
        lost = tuple(_lost(item) for item in table.tables("lost")) if table.has("lost") else ()
        table.done()
        ids = [entry.id for entry in kernels]
        for name in ids:
            if ids.count(name) > 1:
                raise UsageError(f"{path}: kernel '{name}' is there twice", evidence=path)
        if default not in ids:
            raise UsageError(f"{path}: default '{default}' names no kernel", evidence=path)
        return cls(kernels, default, lost)


def _entries(table: Table) -> list[KernelEntry]:
    """One kernel per flavour; all but the plain one have it in their id."""
    name = table.text("id")
    suite = table.text("suite")
    flavours = table.texts("flavours")
    series = table.text("series") if table.has("series") else None
    release = table.text("release") if table.has("release") else None
    tcg_cpu = table.text("tcg_cpu") if table.has("tcg_cpu") else None
    appended = table.tables("append_on") if table.has("append_on") else []
    append_on = tuple(_append_on(item) for item in appended)
    table.done()
    if not _ID.match(name):
        raise UsageError(f"{table.where}: id '{name}' may hold a-z, 0-9, '.', '+', '-' only")
    if (series is None) == (release is None):
        raise UsageError(f"{table.where}: give either 'series' or 'release'")
    if not flavours:
        raise UsageError(f"{table.where}: 'flavours' names no flavour")
    return [
        KernelEntry(flavour_id(name, flavour), suite, flavour, series, release, tcg_cpu, append_on)
        for flavour in flavours
    ]


def _append_on(table: Table) -> tuple[str, str]:
    found = (table.text("cpu"), table.text("word"))
    table.done()
    return found


def flavour_id(name: str, flavour: str) -> str:
    """``debian-6.12`` and ``cloud-amd64`` make ``debian-6.12-cloud``."""
    return name if flavour == PLAIN else f"{name}-{flavour.removesuffix(f'-{PLAIN}')}"


def _lost(table: Table) -> Lost:
    lost = Lost(table.texts("series"), table.text("reason"))
    table.done()
    return lost
