# SPDX-License-Identifier: MIT
"""Digests over inputs: what a cache entry is named after.

A digest names everything that can change the result, each item with a label
and a length, so that two different lists of inputs never hash alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 20


def sha256_file(path: Path) -> str:
    """SHA-256 of one file's content, in hex."""
    state = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            state.update(chunk)
    return state.hexdigest()


class Digest:
    """Collects labelled inputs; ``hex()`` is the name of the cache entry."""

    def __init__(self, purpose: str) -> None:
        self._state = hashlib.sha256()
        self.text("purpose", purpose)

    def bytes(self, label: str, value: bytes) -> Digest:
        """Add one labelled byte string."""
        for part in (label.encode(), value):
            self._state.update(len(part).to_bytes(8, "little"))
            self._state.update(part)
        return self

    def text(self, label: str, value: str) -> Digest:
        """Add one labelled text."""
        return self.bytes(label, value.encode())

    def texts(self, label: str, values: Iterable[str]) -> Digest:
        """Add an ordered list of texts."""
        items = list(values)
        self.text(label, str(len(items)))
        for item in items:
            self.text(label, item)
        return self

    def file(self, label: str, path: Path) -> Digest:
        """Add one file's content (not its path)."""
        return self.text(label, sha256_file(path))

    def tree(self, label: str, root: Path) -> Digest:
        """Add every source file below ``root``: relative path, mode bit, content."""
        files = source_files(root)
        self.text(label, str(len(files)))
        for path in files:
            executable = "x" if path.stat().st_mode & 0o100 else "-"
            self.text("path", f"{path.relative_to(root).as_posix()} {executable}")
            self.file("content", path)
        return self

    def hex(self) -> str:
        """The digest so far."""
        return self._state.hexdigest()


# What compilers leave beside sources.  It is neither an input nor copied.
_BUILD_LITTER_SUFFIXES = frozenset({".o", ".ko", ".a", ".so", ".mod", ".cmd", ".d", ".pyc"})
_BUILD_LITTER_NAMES = frozenset({"Module.symvers", "modules.order", "__pycache__", ".git"})


def is_source(name: str) -> bool:
    """Whether a directory entry is a source, as opposed to a build's litter."""
    if name in _BUILD_LITTER_NAMES or name.endswith(".mod.c"):
        return False
    return Path(name).suffix not in _BUILD_LITTER_SUFFIXES


def source_files(root: Path) -> list[Path]:
    """Every source file below ``root``, in an order that does not depend on the machine."""
    found: list[Path] = []
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in folder.iterdir():
            if not is_source(entry.name):
                continue
            if entry.is_dir():
                pending.append(entry)
            else:
                found.append(entry)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
