# SPDX-License-Identifier: MIT
"""Which tests one xdist worker must run: the groups, written into the test ids.

xdist's own ``xdist_group`` marks travel as a suffix its workers write into
pytest's node ids, which pytest 9.2 made immutable: with xdist 3.8 the marks are
then ignored without a word (every test is its own group).  So the group of a
guest test is part of its parameter, ``test_x[tcg-amd-debian-6.12:module-...]``,
which every version carries and every reader sees.
"""

from __future__ import annotations

import re
from typing import Any

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped,unused-ignore]

from dunelab.pytest_support.slots import default_slots
from dunelab.spec import Cell, EngineName

_NAME = re.compile(r"[^\[\]:]+:[a-z_]+")
_GROUP = re.compile(rf"^[^\[]+\[(?P<group>{_NAME.pattern})(?:-.*)?\]$")
_MARKED = re.compile(r"@(?P<group>[^@\]/]+)$")


def group_of(cell: Cell, kind: str) -> str:
    """The group of a test: one worker runs a whole group.

    A cell is cut by the kind of its tests (behaviour, bench, module, alarms,
    ...), as kinds need different guests anyway, so that a cell can keep more
    than one worker busy; no guest is started twice for one group.
    """
    return f"{cell}:{kind}"


def scope_of(nodeid: str) -> str:
    """The group a node id names; a test without one is alone in its own."""
    marked = _MARKED.search(nodeid)
    if marked is not None:
        return marked["group"]
    written = _GROUP.search(nodeid)
    return written["group"] if written is not None else nodeid


def is_group(scope: str) -> bool:
    """Whether a scope is a group of guest tests."""
    return _NAME.fullmatch(scope) is not None


# How long a guest of an engine takes over the same work, roughly.
_SLOWNESS = {EngineName.BOCHS: 2, EngineName.TCG: 1, EngineName.KVM: 0}


def urgency(cell: Cell | None, *, limited: bool = False) -> int:
    """Where tests stand in a run's queue: the lowest go first.

    A group is one worker's, from its first test to its last, so the longest
    must not be the last to begin: what Bochs runs, then other guests, then the
    tests without one, of which any worker takes any.  Where the time is limited
    it is the other way round: what is quick is done before the time is over.
    """
    if cell is None:
        return len(_SLOWNESS)
    return _SLOWNESS[cell.engine] if limited else -_SLOWNESS[cell.engine]


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc,unused-ignore]
    """xdist's scheduling by scope, with the groups above as scopes.

    Groups go to no more workers than guests may run at once.  One more would wait for
    another's guest to be done, and then boot the same kind anew; it gets the tests without
    a guest, and ends when there are no more.
    """

    def __init__(self, config: Any, log: Any, guests: int) -> None:
        super().__init__(config, log)
        self._guests = guests
        self._with_guests: set[Any] = set()

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        if node not in self._with_guests and len(self._with_guests) >= self._guests:
            alone = next((scope for scope in self.workqueue if not is_group(scope)), None)
            if alone is None:
                node.shutdown()
                return
            self.workqueue.move_to_end(alone, last=False)
        if is_group(next(iter(self.workqueue))):
            self._with_guests.add(node)
        super()._assign_work_unit(node)

    def remove_node(self, node: Any) -> str | None:
        self._with_guests.discard(node)
        crashed: str | None = super().remove_node(node)
        return crashed


def make_scheduler(config: Any, log: Any) -> GroupScheduling | None:
    """The scheduler for ``--dist loadgroup``, which is the default here."""
    if config.option.dist != "loadgroup":
        return None
    # By number of tests, that is; the collection is in the order that is wanted.
    config.option.loadscopereorder = False
    return GroupScheduling(config, log, config.option.dunelab_guests or default_slots())
