# SPDX-License-Identifier: MIT
"""Lines of a serial console, freed of what the transport and printk add.

A line of the kernel starts with a time stamp, ``[   12.345678]``, and with
CONFIG_PRINTK_CALLER also with the caller, ``[    T42]`` or ``[    C1]``.  With
``quiet`` or printk.time=0 there is none; such a line counts as the kernel's if
nothing in the same console ever carried a stamp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[()][0-9A-B]|[=>c])")
_STAMP = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d{6}\](?:\[ *[TC]\d+\])? ?")


@dataclass(frozen=True)
class ConsoleLine:
    """One line: its number (from 1), its text without stamp, whose it is."""

    number: int
    text: str
    kernel: bool


def console_lines(console: str) -> list[ConsoleLine]:
    """Split, strip control sequences and time stamps, tell whose each line is."""
    raw = [_ANSI.sub("", line).rstrip("\r ") for line in console.split("\n")]
    stamped = any(_STAMP.match(line) for line in raw)
    lines = []
    for number, line in enumerate(raw, start=1):
        # A kernel line may start behind an unfinished line of a program.
        text = line.rsplit("\r", 1)[-1]
        match = _STAMP.match(text)
        lines.append(
            ConsoleLine(
                number=number,
                text=text[match.end() :] if match else text,
                kernel=match is not None or not stamped,
            )
        )
    return lines
