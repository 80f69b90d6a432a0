# SPDX-License-Identifier: MIT
"""Failures as annotations of GitHub Actions: a message at a file and line.

A workflow command is a line on standard output, ``::error file=F,line=N,title=T::TEXT``.
GitHub shows ten of a step, so what says most comes first: a splat at the module's line,
then the test's own place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.results.schema import Outcome, TestResult

ERROR, WARNING = "error", "warning"

_SWITCH = "GITHUB_ACTIONS"
_LONGEST = 4000
# Behind a frame of a splat, as symbols.annotate() writes it.
_FRAME_PLACE = re.compile(r"  \((?P<file>[^()\s]+):(?P<line>\d+)\)$", re.MULTILINE)
_KERNEL_MODULES = ("src/kmod", "tests/modules/*", "harness/acceptance/modules/*", "examples/*")
_BAD = (Outcome.FAILED, Outcome.GUEST_DIED, Outcome.INFRASTRUCTURE)


@dataclass(frozen=True)
class Annotation:
    """An error, or a warning, at a line of the tree; ``file`` is relative to the tree's root."""

    file: str
    line: int
    title: str
    text: str
    level: str = ERROR

    def __str__(self) -> str:
        """The workflow command, on one line."""
        properties = f"file={_property(self.file)},line={self.line},title={_property(self.title)}"
        return f"::{self.level} {properties}::{_data(self.text[:_LONGEST])}"


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this runs in a job of GitHub Actions."""
    return environment.get(_SWITCH) == "true"


def of_results(results: Iterable[TestResult], root: Path) -> tuple[Annotation, ...]:
    """One annotation for each test that did not end well."""
    found = []
    for result in results:
        if result.outcome not in _BAD:
            continue
        splat = splat_place(result.message, root)
        file, line = splat or split_place(result.place) or (result.test.partition("::")[0], 1)
        short = result.test.rpartition("/")[2]
        found.append((splat is None, Annotation(file, line, short, result.message)))
    return tuple(annotation for _, annotation in sorted(found, key=lambda pair: pair[0]))


def split_place(place: str) -> tuple[str, int] | None:
    """``file:line`` as its parts; None for anything else."""
    file, _, line = place.rpartition(":")
    return (file, int(line)) if file and line.isdigit() else None


def splat_place(message: str, root: Path) -> tuple[str, int] | None:
    """The first frame of a splat that lies in a module of this tree."""
    for match in _FRAME_PLACE.finditer(message):
        name = match["file"].rpartition("/")[2]
        for folder in _KERNEL_MODULES:
            for path in sorted(root.glob(f"{folder}/{name}")):
                return path.relative_to(root).as_posix(), int(match["line"])
    return None


def lines(annotations: Sequence[Annotation]) -> str:
    """All of them as what is printed; each needs a line of its own."""
    return "".join(f"{annotation}\n" for annotation in annotations)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
