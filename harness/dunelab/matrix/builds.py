# SPDX-License-Identifier: MIT
"""Building the module for every kernel, before anything boots."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dunelab.errors import BuildFailed, DunelabError, InfrastructureError
from dunelab.images.digest import source_files
from dunelab.images.kernel import Kernel
from dunelab.images.kernels import KernelEntry
from dunelab.images.store import Store
from dunelab.matrix.apimap import Place, find_breaks, place_in
from dunelab.matrix.model import BuildReport


def build_all(
    store: Store, entries: Sequence[KernelEntry], progress: Callable[[str], None]
) -> Iterator[BuildReport]:
    """One report per kernel, in this order; a kernel that is not to be had is one too.

    Kernels are fetched one by one, and as many built at once as there are CPUs: much of
    kbuild is one process, whatever make's ``-j`` is.
    """
    place = place_in(
        (path.name, path.read_text(encoding="utf-8"))
        for path in sorted(source_files(store.module_source))
        if path.suffix in (".c", ".h", ".S")
    )
    # Made before the threads want it.
    _ = store.builder
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    reports: deque[Future[BuildReport]] = deque()
    try:
        for number, entry in enumerate(entries, 1):
            progress(f"build {number}/{len(entries)}: {entry.id}")
            reports.append(_start(pool, store, entry, place))
            while reports and reports[0].done():
                yield reports.popleft().result()
        while reports:
            # Each part of a build has its own deadline.
            yield reports.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start(
    pool: ThreadPoolExecutor, store: Store, entry: KernelEntry, place: Place
) -> Future[BuildReport]:
    try:
        kernel = store.kernel(entry.id)
    except InfrastructureError as error:
        missing: Future[BuildReport] = Future()
        missing.set_result(_missing(entry.id, "", error, 0.0))
        return missing
    return pool.submit(build_one, store, kernel, place)


def build_one(store: Store, kernel: Kernel, place: Place) -> BuildReport:
    """Build the module for one kernel."""
    started = time.monotonic()
    try:
        store.module_for(kernel)
    except BuildFailed as error:
        evidence = Path(error.evidence) if error.evidence else None
        log = evidence.read_text("utf-8", "replace") if evidence and evidence.is_file() else ""
        return BuildReport(
            kernel=kernel.id,
            release=kernel.release,
            seconds=time.monotonic() - started,
            breaks=find_breaks(log, place),
            failure=error.what,
            evidence=str(evidence or ""),
        )
    except InfrastructureError as error:
        return _missing(kernel.id, kernel.release, error, time.monotonic() - started)
    return BuildReport(kernel.id, kernel.release, time.monotonic() - started)


def _missing(kernel: str, release: str, error: InfrastructureError, seconds: float) -> BuildReport:
    return BuildReport(
        kernel=kernel,
        release=release,
        seconds=seconds,
        missing=first_line(error),
        evidence=str(error.evidence or ""),
    )


def first_line(error: DunelabError) -> str:
    """An error for a table's row."""
    return error.what.splitlines()[0] if error.what else type(error).__name__
