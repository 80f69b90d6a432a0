# SPDX-License-Identifier: MIT
"""Where a test stopped: in its own file, or in the source of the program it runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dunelab.pytest_support.header import Program

_FAILED = re.compile(r"\bnot ok (?P<text>.*)$", re.MULTILINE)
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CONVERSION = re.compile(r"%[-+ #0]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z|j|t)?[a-zA-Z]")


def program_of(item: pytest.Item) -> Program | None:
    """The guest program a test is parametrised with."""
    callspec = getattr(item, "callspec", None)
    program = callspec.params.get("program") if callspec is not None else None
    return program if isinstance(program, Program) else None


def _own_entry(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """The last entry of a failure's traceback that lies in the test's file."""
    if call.excinfo is None:
        return None
    own = [entry for entry in call.excinfo.traceback if Path(entry.path) == item.path]
    return own[-1] if own else None


def statement(item: pytest.Item, call: pytest.CallInfo[None]) -> str:
    """The test's own line at which it stopped: all of the traceback that helps."""
    entry = _own_entry(item, call)
    if entry is None:
        return ""
    return f"\n  at {item.path.name}:{entry.lineno + 1}: {str(entry.statement).strip()}"


def place(item: pytest.Item, call: pytest.CallInfo[None], message: str) -> str:
    """``file:line`` of a failure: in the guest program's source, else in the test's own."""
    program = program_of(item)
    if program is not None:
        path, line = program.source, line_of_failure(program.source, message)
    else:
        entry = _own_entry(item, call)
        path, line = item.path, entry.lineno + 1 if entry else (item.location[1] or 0) + 1
    root = item.config.rootpath
    return f"{path.relative_to(root) if path.is_relative_to(root) else path}:{line}"


def line_of_failure(source: Path, message: str) -> int:
    """The line of the first check that failed, found by its text; 1 if it is not there."""
    failed = _FAILED.search(message)
    if failed is None:
        return 1
    for number, line in enumerate(source.read_text("utf-8", "replace").splitlines(), 1):
        for literal in _LITERAL.findall(line):
            parts = _CONVERSION.split(literal)
            if not any(re.search(r"\w", part) for part in parts):
                continue
            # What may follow is why it failed.
            if re.match(".*".join(map(re.escape, parts)) + r"(?:: |\Z)", failed["text"]):
                return number
    return 1
