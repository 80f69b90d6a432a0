# SPDX-License-Identifier: MIT
"""What the archive offers that the kernels on record, or kernels.toml, do not have.

Nothing is changed here: ``dunelab kernels --refresh`` takes newer packages, and a new
series is one entry of kernels.toml.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dunelab.errors import InfrastructureError
from dunelab.images.kernels import PLAIN, KernelEntry
from dunelab.images.resolve import Index, Record, newest_release

_HEADERS = "linux-headers-"
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
class Survey:
    """All suites looked at: offers, series without an entry, suites out of reach."""

    offers: tuple[Offer, ...]
    uncovered: tuple[tuple[str, str], ...]
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
    uncovered: list[tuple[str, str]] = []
    unreachable: list[tuple[str, str]] = []
    for suite in dict.fromkeys(entry.suite for entry in entries):
        index = archive(suite)
        own = [entry for entry in entries if entry.suite == suite]
        try:
            index.update()
            offers += [_offer(index, entry, recorded(entry)) for entry in own]
            offered = series_of(index.names(_HEADERS))
        except InfrastructureError as error:
            unreachable.append((suite, error.what.splitlines()[0]))
            continue
        covered = {".".join(map(str, entry.version)) for entry in own}
        uncovered += [(suite, series) for series in offered if series not in covered]
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
