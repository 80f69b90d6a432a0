# SPDX-License-Identifier: MIT
"""What of the kernel's interface a build broke on, out of its log: pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dunelab.images.builder import WORK
from dunelab.images.module import find_warnings
from dunelab.matrix.model import Break, BuildReport

_DIAGNOSTIC = re.compile(
    r"^(?P<path>[^\s:]+):(?P<line>\d+):(?:\d+:)? (?:fatal )?(?:error|warning): (?P<text>.*)$"
)
_OBJTOOL = re.compile(r"(?:warning|error): objtool: (?P<name>[\w.]+)[+:(].*$")
_MODPOST = re.compile(r"^(?:ERROR|WARNING): modpost: (?P<text>.*)$")
_FLAG = re.compile(r" \[-W[^\]]*\]$")

# The first that fits says what kind of thing is missing, and its name.
_QUOTED = r"'(?P<name>[^']+)'"
_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("symbol", re.compile(rf"implicit declaration of function {_QUOTED}")),
    ("symbol", re.compile(rf"{_QUOTED} undeclared")),
    ("symbol", re.compile(rf"unknown type name {_QUOTED}")),
    ("header", re.compile(r"(?P<name>\S+\.h): No such file or directory")),
    ("member", re.compile(rf"has no member named {_QUOTED}")),
    ("signature", re.compile(rf"too (?:few|many) arguments to function {_QUOTED}")),
    ("signature", re.compile(rf"passing argument \d+ of {_QUOTED}")),
    ("signature", re.compile(rf"conflicting types for {_QUOTED}")),
    ("signature", re.compile(rf"macro \"?{_QUOTED}")),
    ("signature", re.compile(r"incompatible pointer type.*?'(?P<name>[^']+)'")),
)
_EXPORTS = (
    re.compile(r"module uses symbol '(?P<name>\w+)' from namespace"),
    re.compile(r'"(?P<name>\w+)" \[[^\]]*\] undefined'),
    re.compile(r"GPL-incompatible module \S+ uses GPL-only symbol '(?P<name>\w+)'"),
)

OTHER = "other"

Place = Callable[[str], str]


def find_breaks(log: str, place_of: Place) -> tuple[Break, ...]:
    """The breaks of a build's log, each name once.

    What else the compiler says of a line that has a break is a consequence.
    ``place_of`` finds where the module uses a symbol, for what modpost complains about
    without a line.
    """
    found: dict[tuple[str, str], Break] = {}
    places: set[str] = set()
    for line in log.splitlines():
        item = _break(line.strip(), place_of)
        if item is None or (item.kind == OTHER and item.place and item.place in places):
            continue
        found.setdefault((item.kind, item.name), item)
        places.add(item.place)
    return tuple(found.values())


def _break(line: str, place_of: Place) -> Break | None:
    modpost = _MODPOST.match(line)
    if modpost:
        text = modpost["text"]
        for pattern in _EXPORTS:
            match = pattern.search(text)
            if match:
                return Break("export", match["name"], place_of(match["name"]), text)
        return Break(OTHER, text, "", text)
    objtool = _OBJTOOL.search(line)
    if objtool:
        return Break("objtool", objtool["name"], place_of(objtool["name"]), line)
    diagnostic = _DIAGNOSTIC.match(line)
    if diagnostic is None:
        return None
    path = diagnostic["path"].removeprefix(f"{WORK}/module/").removeprefix("./")
    place, text = f"{path}:{diagnostic['line']}", _FLAG.sub("", diagnostic["text"])
    for kind, pattern in _KINDS:
        match = pattern.search(text)
        if match:
            return Break(kind, match["name"], place, text)
    if "error:" in line or find_warnings(line):
        return Break(OTHER, text, place, text)
    return None


def place_in(sources: Iterable[tuple[str, str]]) -> Place:
    """Where a symbol is first named among sources, given as names and texts."""
    texts = list(sources)

    def place(symbol: str) -> str:
        word = re.compile(rf"\b{re.escape(symbol)}\b")
        for name, text in texts:
            for number, line in enumerate(text.splitlines(), 1):
                if word.search(line):
                    return f"{name}:{number}"
        return ""

    return place


@dataclass(frozen=True)
class Drift:
    """One break, over all kernels that have it; the oldest of them is the first."""

    found: Break
    kernels: tuple[str, ...]


def drifts(builds: Sequence[BuildReport]) -> tuple[Drift, ...]:
    """The map: each break once, with the kernels it is in, in the order of ``builds``."""
    where: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], Break] = {}
    for build in builds:
        for item in build.breaks:
            key = (item.kind, item.name)
            first.setdefault(key, item)
            where.setdefault(key, []).append(build.kernel)
    return tuple(Drift(first[key], tuple(kernels)) for key, kernels in where.items())
