# SPDX-License-Identifier: MIT
"""A test whose guest QEMU killed, provably, is run once more, on a new guest.

Nothing else is: a second death counts, and so does any that ``dunelab.machine.stale``
has no proof for.  The result says that there was a first try, and why.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from _pytest.runner import runtestprotocol

from dunelab.machine.stale import ran_stale_code
from dunelab.machine.watch import GuestCrashed
from dunelab.pytest_support.watch import SplatSeen
from dunelab.pytest_support.worker import Worker, cell_of, variant_of
from dunelab.spec import EngineName

_DEATH = pytest.StashKey[str]()


class SecondTry:
    """The plugin's part that may run a test twice."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """What pytest's own does, and once more when it has to be."""
        cell = cell_of(item)
        if cell is None or cell.engine is not EngineName.TCG:
            return None
        hook = item.ihook
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if _DEATH in item.stash:
            self._worker.open_again(item, item.stash[_DEATH], reports)
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        for report in reports:
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Note a death that is QEMU's."""
        report = yield
        error = call.excinfo.value if call.excinfo is not None else None
        cell = cell_of(item)
        if cell is None or not isinstance(error, GuestCrashed | SplatSeen):
            return report
        if ran_stale_code(cell.engine, variant_of(item).cpus, error.splats):
            evidence = getattr(error, "evidence", None)
            where = f", evidence: {evidence}" if evidence else ""
            item.stash[_DEATH] = f"the guest died of stale code{where}"
        return report
