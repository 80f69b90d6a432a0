# SPDX-License-Identifier: MIT
"""What the archive offers that the kernels on record, or kernels.toml, do not have.

``dunelab kernels --refresh`` takes newer packages; a new series is one entry of
kernels.toml, which ``--write`` adds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dunelab.errors import InfrastructureError
from dunelab.images.cache import write_atomically
from dunelab.images.kernels import PLAIN, KernelEntry, Matrix
from dunelab.images.resolve import Index, Record, newest_release, releases_of

_HEADERS = "linux-headers-"
_LOST = re.compile(r"^(?:#.*\n)*\[\[lost\]\]", re.MULTILINE)
FLAVOURS = (PLAIN, f"cloud-{PLAIN}", f"rt-{PLAIN}")
"""Those that the matrix is about; Debian has others."""

_SERIES = re.compile(r"(\d+\.\d+)(?:[.+-]|\Z)")


class FreshIndex(Index, Protocol):
    """An index that can be looked up anew."""

    def update(self) -> None: ...


@dataclass(frozen=True)
class Offer:
    """One kernel of the matrix: what is on record, what there is."""

    kernel: str
    recorded: str
    offered: str
    newer: bool


@dataclass(frozen=True)
class NewSeries:
    """A series of a suite that no entry covers, with the flavours it has."""

    suite: str
    series: str
    flavours: tuple[str, ...]


@dataclass(frozen=True)
class Survey:
    """All suites looked at: offers, series without an entry, suites out of reach."""

    offers: tuple[Offer, ...]
    uncovered: tuple[NewSeries, ...]
    unreachable: tuple[tuple[str, str], ...]

    @property
    def news(self) -> bool:
        return bool(self.uncovered) or any(offer.newer for offer in self.offers)


def survey(
    entries: Sequence[KernelEntry],
    recorded: Callable[[KernelEntry], Record | None],
    archive: Callable[[str], FreshIndex],
) -> Survey:
    """Ask the index of every suite; one that cannot be reached ends nothing."""
    offers: list[Offer] = []
    uncovered: list[NewSeries] = []
    unreachable: list[tuple[str, str]] = []
    for suite in dict.fromkeys(entry.suite for entry in entries):
        index = archive(suite)
        own = [entry for entry in entries if entry.suite == suite]
        try:
            index.update()
            offers += [_offer(index, entry, recorded(entry)) for entry in own]
            names = index.names(_HEADERS)
        except InfrastructureError as error:
            unreachable.append((suite, error.what.splitlines()[0]))
            continue
        covered = {".".join(map(str, entry.version)) for entry in own}
        uncovered += [
            NewSeries(suite, series, flavours_of(names, series))
            for series in series_of(names)
            if series not in covered
        ]
    return Survey(tuple(offers), tuple(uncovered), tuple(unreachable))


def _offer(index: Index, entry: KernelEntry, record: Record | None) -> Offer:
    """Compared by the package's version: a rebuild keeps the release's name."""
    release = newest_release(index, entry)
    package = f"{_HEADERS}{release}"
    offered = index.package(package).version
    known = {} if record is None else {p.name: p.version for p in record.packages}
    before = "nothing" if record is None else f"{record.label} ({_headers_version(known)})"
    return Offer(entry.id, before, f"{release} ({offered})", known.get(package) != offered)


def _headers_version(versions: dict[str, str]) -> str:
    return next((version for name, version in versions.items() if name.startswith(_HEADERS)), "?")


def series_of(names: Iterable[str]) -> list[str]:
    """The series that header packages of the plain flavour belong to, the oldest first."""
    found = set()
    for name in names:
        release = name.removeprefix(_HEADERS)
        match = _SERIES.match(release.removesuffix(f"-{PLAIN}"))
        if match and release.endswith(f"-{PLAIN}"):
            found.add(match[1])
    return sorted(found, key=lambda series: tuple(map(int, series.split("."))))


def flavours_of(names: Sequence[str], series: str) -> tuple[str, ...]:
    """Which of the flavours that the matrix knows a series has, the plain one first."""
    return tuple(flavour for flavour in FLAVOURS if releases_of(names, series, flavour))


def add_entries(path: Path, found: Sequence[NewSeries]) -> None:
    """Write an entry for each series into kernels.toml, behind those that are there."""
    text = path.read_text(encoding="utf-8")
    taken = {entry.id for entry in Matrix.read(path).kernels}
    entries = []
    for new in found:
        name = f"debian-{new.series}"
        if name in taken:
            name += f"-{new.suite}"
        taken.add(name)
        flavours = ", ".join(f'"{flavour}"' for flavour in new.flavours)
        entries.append(
            f'[[kernel]]\nid = "{name}"\nsuite = "{new.suite}"\nseries = "{new.series}"\n'
            f"flavours = [{flavours}]\n\n"
        )
    # Before the kernels that are not to be had, and what is said of them.
    lost = _LOST.search(text)
    if lost is None:
        text += "\n"
    at = lost.start() if lost else len(text)
    write_atomically(path, text[:at] + "".join(entries) + text[at:])
    Matrix.read(path)
