# SPDX-License-Identifier: MIT
"""Debian formats, as pure functions: control paragraphs and version order."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DIGITS = re.compile(r"\d+")
_NOT_DIGITS = re.compile(r"\D*")


def paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file; continuation lines keep their line breaks."""
    fields: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        else:
            name, _, value = line.partition(":")
            fields[name] = value.strip()


def dependency_names(depends: str) -> list[list[str]]:
    """``a (>= 1), b | c`` as ``[["a"], ["b", "c"]]``."""
    groups: list[list[str]] = []
    for clause in depends.split(","):
        names = [
            alternative.split("(")[0].split(":")[0].strip() for alternative in clause.split("|")
        ]
        if any(names):
            groups.append([name for name in names if name])
    return groups


def _weight(character: str) -> int:
    """Letters sort before everything else, a tilde before even the end."""
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256


def _part_key(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """A sort key for an upstream version or a revision (Debian policy 5.6.12)."""
    key: list[tuple[tuple[int, ...], int]] = []
    rest = part
    while rest:
        text_match = _NOT_DIGITS.match(rest)
        text = text_match.group() if text_match else ""
        rest = rest[len(text) :]
        number_match = _DIGITS.match(rest)
        number = number_match.group() if number_match else ""
        rest = rest[len(number) :]
        # The closing 0 is "end of text": above a tilde, below any letter.
        key.append(((*map(_weight, text), 0), int(number or "0")))
    key.append(((0,), 0))
    return tuple(key)


VersionKey = tuple[
    int, tuple[tuple[tuple[int, ...], int], ...], tuple[tuple[tuple[int, ...], int], ...]
]


def version_key(version: str) -> VersionKey:
    """A key that sorts Debian versions as dpkg does."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, "0"
    return int(epoch), _part_key(upstream), _part_key(revision)
