# SPDX-License-Identifier: MIT
"""Building the module for every kernel, before anything boots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dunelab.errors import BuildFailed, DunelabError, InfrastructureError
from dunelab.images.digest import source_files
from dunelab.images.kernels import KernelEntry
from dunelab.images.store import Store
from dunelab.matrix.apimap import Place, find_breaks, place_in
from dunelab.matrix.model import BuildReport


def build_all(
    store: Store, entries: Sequence[KernelEntry], progress: Callable[[str], None]
) -> Iterator[BuildReport]:
    """One report per kernel, in this order; a kernel that is not to be had is one too."""
    place = place_in(
        (path.name, path.read_text(encoding="utf-8"))
        for path in sorted(source_files(store.module_source))
        if path.suffix in (".c", ".h", ".S")
    )
    for number, entry in enumerate(entries, 1):
        progress(f"build {number}/{len(entries)}: {entry.id}")
        yield build_one(store, entry, place)


def build_one(store: Store, entry: KernelEntry, place: Place) -> BuildReport:
    """Build the module for one kernel."""
    started = time.monotonic()
    release = ""
    try:
        release = store.kernel(entry.id).release
        store.module(entry.id)
    except BuildFailed as error:
        evidence = Path(error.evidence) if error.evidence else None
        log = evidence.read_text("utf-8", "replace") if evidence and evidence.is_file() else ""
        return BuildReport(
            kernel=entry.id,
            release=release,
            seconds=time.monotonic() - started,
            breaks=find_breaks(log, place),
            failure=error.what,
            evidence=str(evidence or ""),
        )
    except InfrastructureError as error:
        return BuildReport(
            kernel=entry.id,
            release=release,
            seconds=time.monotonic() - started,
            missing=first_line(error),
            evidence=str(error.evidence or ""),
        )
    return BuildReport(entry.id, release, time.monotonic() - started)


def first_line(error: DunelabError) -> str:
    """An error for a table's row."""
    return error.what.splitlines()[0] if error.what else type(error).__name__
