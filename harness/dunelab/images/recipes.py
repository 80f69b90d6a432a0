# SPDX-License-Identifier: MIT
"""Recipes kept as TOML under images/, checked while they are read.

``Table`` turns "the key is missing or of the wrong type" into one error that
names file, table and key; unknown keys are errors too, so a misspelt option
is never ignored.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dunelab.errors import UsageError


class Table:
    """One TOML table and where it came from."""

    def __init__(self, where: str, data: dict[str, Any]) -> None:
        self.where = where
        self._data = data
        self._seen: set[str] = set()

    @classmethod
    def read(cls, path: Path) -> Table:
        """Parse a file; a syntax error names the file and the line."""
        try:
            return cls(str(path), tomllib.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not valid TOML: {error}", evidence=path) from error

    def _fail(self, what: str) -> UsageError:
        return UsageError(f"{self.where}: {what}", evidence=self.where.split(": ")[0])

    def has(self, key: str) -> bool:
        """Whether an optional key is there."""
        return key in self._data

    def text(self, key: str) -> str:
        """A non-empty string."""
        self._seen.add(key)
        value = self._data.get(key)
        if not isinstance(value, str) or not value:
            raise self._fail(f"'{key}' must be a non-empty string, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        self._seen.add(key)
        value = self._data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._fail(f"'{key}' must be a list of strings, not {value!r}")
        return tuple(value)

    def table(self, key: str) -> Table:
        """A sub-table."""
        self._seen.add(key)
        value = self._data.get(key)
        if not isinstance(value, dict):
            raise self._fail(f"'{key}' must be a table")
        return Table(f"{self.where}: [{key}]", value)

    def tables(self, key: str) -> list[Table]:
        """An array of tables."""
        self._seen.add(key)
        value = self._data.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._fail(f"'{key}' must be an array of tables ([[{key}]])")
        return [Table(f"{self.where}: [[{key}]] {n}", item) for n, item in enumerate(value, 1)]

    def number(self, key: str) -> int:
        """A whole number, zero or more."""
        self._seen.add(key)
        value = self._data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._fail(f"'{key}' must be a whole number, not {value!r}")
        return value

    def pairs(self) -> dict[str, str]:
        """The whole table as string to string."""
        return {key: self.text(key) for key in self._data}

    def done(self) -> None:
        """Complain about keys nobody asked for."""
        unknown = sorted(set(self._data) - self._seen)
        if unknown:
            raise self._fail(f"unknown key {', '.join(unknown)}")


@dataclass(frozen=True)
class BuilderRecipe:
    """The builder root: suite, packages, paths left out."""

    suite: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> BuilderRecipe:
        """From images/builder.toml."""
        return cls.of(Table.read(path))

    @classmethod
    def of(cls, table: Table) -> BuilderRecipe:
        """From a table that holds nothing else."""
        recipe = cls(table.text("suite"), table.texts("packages"), table.texts("exclude"))
        table.done()
        return recipe


@dataclass(frozen=True)
class GuestRecipe:
    """What is in a guest besides kernel and module."""

    suite: str
    packages: tuple[str, ...]
    files: tuple[str, ...]
    boot_modules: tuple[str, ...]
    network_modules: tuple[str, ...]
    disk_modules: tuple[str, ...]
    modules: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> GuestRecipe:
        """From images/guest.toml."""
        table = Table.read(path)
        recipe = cls(
            table.text("suite"),
            table.texts("packages"),
            table.texts("files"),
            table.texts("boot_modules"),
            table.texts("network_modules"),
            table.texts("disk_modules"),
            table.texts("modules"),
        )
        table.done()
        return recipe


@dataclass(frozen=True)
class FullRecipe:
    """What is on the full guest's disk, and how it is packed.

    ``files`` lie beside the recipe: ``customize``, a script that runs in the
    making, and what it works on.
    """

    suite: str
    packages: tuple[str, ...]
    exclude: tuple[str, ...]
    compression: tuple[str, ...]
    files: Path

    @classmethod
    def read(cls, path: Path) -> FullRecipe:
        """From images/full.toml."""
        table = Table.read(path)
        disk = table.table("disk")
        recipe = cls(
            suite=table.text("suite"),
            packages=table.texts("packages"),
            exclude=table.texts("exclude"),
            compression=disk.texts("compression"),
            files=path.with_suffix(""),
        )
        disk.done()
        table.done()
        return recipe


@dataclass(frozen=True)
class SuiteRecipe:
    """Which of a suite's tests are built, from packages or from a source package.

    ``files`` beside the recipe say how.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    source: str
    upstream: str
    tests: tuple[str, ...]
    files: Path

    @classmethod
    def read(cls, path: Path) -> SuiteRecipe:
        """From images/NAME.toml."""
        table = Table.read(path)
        source = table.has("source")
        recipe = cls(
            name=path.stem,
            suite=table.text("suite"),
            packages=() if source else table.texts("packages"),
            source=table.text("source") if source else "",
            upstream=table.text("upstream") if source else "",
            tests=table.texts("tests"),
            files=path.with_suffix(""),
        )
        table.done()
        return recipe


@dataclass(frozen=True)
class BochsRecipe:
    """How the emulator is built."""

    suite: str
    source: str
    upstream: str
    patch: Path
    packages: tuple[str, ...]
    share: tuple[tuple[str, str], ...]
    cflags: str
    configure: tuple[str, ...]
    ldflags: str

    @classmethod
    def read(cls, path: Path) -> BochsRecipe:
        """From images/bochs.toml."""
        table = Table.read(path)
        build = table.table("build")
        recipe = cls(
            suite=table.text("suite"),
            source=table.text("source"),
            upstream=table.text("upstream"),
            patch=path.parent / table.text("patch"),
            packages=table.texts("packages"),
            share=tuple(sorted(table.table("share").pairs().items())),
            cflags=build.text("cflags"),
            configure=build.texts("configure"),
            ldflags=build.text("ldflags"),
        )
        build.done()
        table.done()
        return recipe


@dataclass(frozen=True)
class DebugKernelRecipe:
    """The kernel that is built from source, and the root it is built in.

    ``tarball`` is where the package has the source; ``memory_mib`` is what a guest needs
    on top of the usual.
    """

    id: str
    suite: str
    series: str
    package: str
    tarball: str
    config: Path
    memory_mib: int
    builder: BuilderRecipe

    @classmethod
    def read(cls, path: Path) -> DebugKernelRecipe:
        """From images/debug-kernel.toml."""
        table = Table.read(path)
        recipe = cls(
            id=table.text("id"),
            suite=table.text("suite"),
            series=table.text("series"),
            package=table.text("package"),
            tarball=table.text("tarball"),
            config=path.parent / table.text("config"),
            memory_mib=table.number("memory_mib"),
            builder=BuilderRecipe.of(table.table("builder")),
        )
        table.done()
        return recipe
