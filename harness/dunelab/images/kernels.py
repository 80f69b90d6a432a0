# SPDX-License-Identifier: MIT
"""The kernel matrix: images/kernels.toml as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dunelab.errors import UsageError
from dunelab.images.recipes import Table

_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*\Z")


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

    @property
    def wanted(self) -> str:
        """What is asked for, in words."""
        version = self.release or f"{self.series}.*"
        return f"{version}-{self.flavour} in {self.suite}"


@dataclass(frozen=True)
class Matrix:
    """All kernels, and the one used when none is named."""

    kernels: tuple[KernelEntry, ...]
    default: str

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
        kernels = tuple(_entry(item) for item in table.tables("kernel"))
        table.done()
        ids = [entry.id for entry in kernels]
        for name in ids:
            if ids.count(name) > 1:
                raise UsageError(f"{path}: kernel '{name}' is there twice", evidence=path)
        if default not in ids:
            raise UsageError(f"{path}: default '{default}' names no kernel", evidence=path)
        return cls(kernels, default)


def _entry(table: Table) -> KernelEntry:
    entry = KernelEntry(
        id=table.text("id"),
        suite=table.text("suite"),
        flavour=table.text("flavour"),
        series=table.text("series") if table.has("series") else None,
        release=table.text("release") if table.has("release") else None,
    )
    table.done()
    if not _ID.match(entry.id):
        raise UsageError(f"{table.where}: id '{entry.id}' may hold a-z, 0-9, '.', '+', '-' only")
    if (entry.series is None) == (entry.release is None):
        raise UsageError(f"{table.where}: give either 'series' or 'release'")
    return entry
