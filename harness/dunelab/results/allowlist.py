# SPDX-License-Identifier: MIT
"""Splats that are known, somebody else's, and tolerated for a limited time.

    [[allow]]
    pattern = 'WARNING: at arch/x86/kernel/fpu/xstate\\.c'
    reason  = "QEMU offers AMX without its state component"
    link    = "https://..."
    expires = 2027-03-01

All four keys are compulsory.  An entry past its date no longer allows
anything, so that a forgotten one comes back as the failure it hides.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.errors import UsageError
from dunelab.results.splat import Splat

_KEYS = {"pattern", "reason", "link", "expires"}


@dataclass(frozen=True)
class Allowed:
    """One tolerated splat: ``pattern`` is searched in its title."""

    pattern: re.Pattern[str]
    reason: str
    link: str
    expires: datetime.date


def parse_allowlist(text: str, where: str) -> tuple[Allowed, ...]:
    """Read an allowlist; every defect of it is named."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is no TOML: {error}", evidence=where) from error
    entries = raw.pop("allow", [])
    if raw or not isinstance(entries, list):
        raise UsageError(f"{where} holds something besides [[allow]] tables", evidence=where)
    return tuple(_entry(entry, f"{where}, entry {n}") for n, entry in enumerate(entries, start=1))


def _entry(entry: object, where: str) -> Allowed:
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise UsageError(f"{where} needs exactly the keys {', '.join(sorted(_KEYS))}")
    texts = {key: entry[key] for key in ("pattern", "reason", "link")}
    for key, value in texts.items():
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{where}: {key} must be a non-empty string")
    expires = entry["expires"]
    if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
        raise UsageError(f"{where}: expires must be a date such as 2027-03-01")
    try:
        pattern = re.compile(texts["pattern"])
    except re.error as error:
        raise UsageError(f"{where}: pattern is no regular expression: {error}") from error
    return Allowed(pattern, texts["reason"], texts["link"], expires)


def read_allowlist(path: Path) -> tuple[Allowed, ...]:
    """Read the file; a missing one allows nothing."""
    if not path.exists():
        return ()
    return parse_allowlist(path.read_text("utf-8"), str(path))


def unexpected(
    splats: Sequence[Splat], allowed: Sequence[Allowed], today: datetime.date
) -> tuple[Splat, ...]:
    """The splats no valid entry covers.  A fatal one is never covered."""
    valid = [entry for entry in allowed if entry.expires > today]
    return tuple(
        splat
        for splat in splats
        if splat.fatal or not any(entry.pattern.search(splat.title) for entry in valid)
    )
