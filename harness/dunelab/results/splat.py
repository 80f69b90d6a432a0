# SPDX-License-Identifier: MIT
"""Kernel complaints ("splats") in a serial console's text, as pure functions.

A splat is found by an anchored pattern at the start of a kernel line, never by
a substring: a program that prints "BUG" raises no alarm.  It is cut at its own
end mark, carries a title that is the same from run to run, and is blamed on
the test whose marker lines surround it:

    dunelab: begin tests/test_x.py::test_y
    dunelab: end tests/test_x.py::test_y

What the kernel says between two tests is blamed on "after <the earlier one>".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dunelab.results.console import ConsoleLine, console_lines
from dunelab.results.splat_rules import RULES, Kind, Rule

__all__ = [
    "Blame",
    "Frame",
    "Kind",
    "Splat",
    "begin_marker",
    "end_marker",
    "find_splats",
]

MARKER = "dunelab:"
FRAMES_KEPT = 12
# A splat without an end mark (a machine that was cut off) is not allowed to
# swallow the rest of the log.
LONGEST = 200


@dataclass(frozen=True)
class Frame:
    """One line of a call trace: ``function+0x12/0x34 [module]``.

    ``exact`` tells an instruction's own address (RIP) from a return address,
    which points behind the call.  ``sure`` is False for frames the kernel
    itself marks with ``?``.
    """

    function: str
    offset: int
    size: int
    module: str | None = None
    exact: bool = False
    sure: bool = True

    def __str__(self) -> str:
        where = f"{self.function}+{self.offset:#x}/{self.size:#x}"
        return f"{where} [{self.module}]" if self.module else where


class Position(StrEnum):
    """Where a splat stands relative to the test it is blamed on."""

    DURING = "during"
    AFTER = "after"
    BEFORE_ANY = "before any test"


@dataclass(frozen=True)
class Blame:
    """The test a splat is attributed to, and how."""

    position: Position
    test: str | None = None

    def __str__(self) -> str:
        return str(self.position) if self.test is None else f"{self.position} {self.test}"


NOBODY = Blame(Position.BEFORE_ANY)


@dataclass(frozen=True)
class Splat:
    """One complaint of the kernel, cut to its own lines."""

    kind: Kind
    title: str
    fatal: bool
    lines: tuple[str, ...]
    first_line: int
    frames: tuple[Frame, ...] = ()
    blame: Blame = NOBODY
    complete: bool = True

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def fingerprint(self) -> str:
        """Stable over runs, boots and kernel builds: kind and functions."""
        names = [
            frame.function
            for frame in self.frames
            if frame.sure and not _REPORTERS.match(frame.function)
        ]
        return ":".join([self.kind, *names[:5]]) if names else f"{self.kind}:{self.title}"


def begin_marker(test: str) -> str:
    """The text to write to /dev/kmsg (after ``dunelab: ``) before a test."""
    return f"begin {test}"


def end_marker(test: str) -> str:
    """The text to write to /dev/kmsg (after ``dunelab: ``) after a test."""
    return f"end {test}"


_FRAME = re.compile(
    r"(?P<sure>\? )?(?P<function>[A-Za-z_][\w.$]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
    r"(?:\s+\[(?P<module>\w+)[^\]]*\])?"
)
_RIP = re.compile(r"^(?:RIP|EIP): (?:[0-9a-f]{4}:)?(?=[A-Za-z_])")
_TRACE_LINE = re.compile(r"^\s+(?:\? )?[A-Za-z_][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+")
_BACKTRACE = "stack backtrace:"
_MARKER = re.compile(rf"^{MARKER} (begin|end) (.*)$")
_END_TRACE = re.compile(r"^---\[ end (?:trace|Kernel panic)\b")
# With panic=-1 the machine reboots at once and prints no end mark.
_END_PANIC = re.compile(r"^---\[ end Kernel panic\b|^Rebooting in \d+ seconds|^Kernel Offset: ")
_PANIC = re.compile(r"^Kernel panic - not syncing\b")
_CUT_HERE = re.compile(r"^-+\[ cut here \]-+$")
_RULE_LINE = re.compile(r"^=+$")


def parse_frame(text: str, *, exact: bool = False) -> Frame | None:
    """The first ``function+offset/size [module]`` in a line, or None."""
    match = _FRAME.search(text)
    if match is None:
        return None
    return Frame(
        function=match["function"],
        offset=int(match["offset"], 16),
        size=int(match["size"], 16),
        module=match["module"],
        exact=exact,
        sure=match["sure"] is None,
    )


def frames_of(lines: Sequence[str]) -> tuple[Frame, ...]:
    """RIP first, then the call trace, without repeats, at most a dozen.

    lockdep shows first where each lock of its chain was once taken, and then the trace.
    """
    frames: list[Frame] = []
    start = lines.index(_BACKTRACE) if _BACKTRACE in lines else 0
    for line in lines[start:]:
        exact = bool(_RIP.match(line))
        if not exact and not _TRACE_LINE.match(line):
            continue
        frame = parse_frame(line, exact=exact)
        if frame is not None and frame not in frames:
            frames.append(frame)
    return tuple(frames[:FRAMES_KEPT])


# What differs from run to run, in the order it is taken out of a headline.
_VARIABLE = (
    (re.compile(r"CPU: \d+ PID: \d+ "), ""),
    (re.compile(r",? CPU#?\d+:? \S+/\d+$"), ""),
    (re.compile(r": [0-9a-f]{4} \[#\d+\].*$"), ""),
    (re.compile(r": \S+/\d+/0x[0-9a-f]+$"), ""),
    (re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+"), ""),
    (re.compile(r"\b(?:0x[0-9a-f]+|[0-9a-f]{16})\b"), "ADDR"),
    (re.compile(r"\[#\d+\]"), ""),
    (re.compile(r" ?\[?\S+:\d+\]$"), ""),
    (re.compile(r"\bINFO: task (\S+?):\d+ "), r"INFO: task \1 "),
    (re.compile(r"\b(for (?:more than )?)\d+( ?s(?:econds)?\b)"), r"\1N\2"),
    (re.compile(r"\bCPU#?\d+\b"), "CPU"),
)
# Functions that report a fault rather than commit it.
_REPORTERS = re.compile(
    r"(?:dump_stack|show_stack|panic$|__?warn|report_bug|refcount_warn|__schedule_bug|"
    r"__might_resched|watchdog_|sched_show_task|rcu_|print_|kasan_|ubsan_|__ubsan|"
    r"check_(?:noncircular|prev_add|deadlock)|mark_lock|(?:__)?lock_acquire|lockdep_|"
    r"_printk|kernel_param_unlock|__?list_(?:add|del)\w*_(?:valid|corrupt))"
)


def normalise_title(line: str) -> str:
    """Drop from a headline what differs from one run to the next."""
    for pattern, word in _VARIABLE:
        line = pattern.sub(word, line)
    return re.sub(r"\s+", " ", line).strip(" :-")


def _rule_for(text: str) -> Rule | None:
    return next((rule for rule in RULES if rule.pattern.match(text)), None)


def find_splats(console: str) -> tuple[Splat, ...]:
    """All splats of a console's text, in order, each with its blame."""
    lines = console_lines(console)
    splats: list[Splat] = []
    blame = NOBODY
    position = 0
    while position < len(lines):
        text = lines[position].text
        if marker := _MARKER.match(text):
            test = marker[2]
            where = Position.DURING if marker[1] == "begin" else Position.AFTER
            blame = Blame(where, test)
        rule = _rule_for(text) if lines[position].kernel else None
        if rule is None:
            position += 1
            continue
        start = _start(lines, position)
        stop, complete = _stop(lines, position, rule)
        splats.append(_splat(lines[start:stop], position - start, rule, blame, complete))
        # Markers inside the cut still move the blame on.
        for line in lines[position:stop]:
            if inner := _MARKER.match(line.text):
                where = Position.DURING if inner[1] == "begin" else Position.AFTER
                blame = Blame(where, inner[2])
        position = stop
    return tuple(splats)


def _start(lines: Sequence[ConsoleLine], position: int) -> int:
    """Include the line drawn above a headline ("cut here", a rule of =).

    A WARN's own message stands between the "cut here" and its headline.
    """
    for back in range(position - 1, max(-1, position - 6), -1):
        text = lines[back].text
        if _MARKER.match(text) or _END_TRACE.match(text):
            break
        if _CUT_HERE.match(text) or (_RULE_LINE.match(text) and back == position - 1):
            return back
    return position


def _stop(lines: Sequence[ConsoleLine], position: int, rule: Rule) -> tuple[int, bool]:
    """The line behind the splat's last one, and whether its end mark was seen."""
    limit = min(len(lines), position + LONGEST)
    if rule.single_line:
        return position + 1, True
    if rule.prelude:
        for ahead in range(position + 1, min(limit, position + 5)):
            second = _rule_for(lines[ahead].text)
            if second is not None:
                return _stop(lines, ahead, second)
        return position + 1, True
    end = _END_PANIC if rule.kind in (Kind.PANIC, Kind.NO_INIT) else _END_TRACE
    in_trace = False
    last_trace = position
    for index in range(position + 1, limit):
        text = lines[index].text
        if not lines[index].kernel:
            continue
        if end.match(text):
            return _with_panic(lines, index + 1, rule)
        if _MARKER.match(text) and last_trace > position:
            return last_trace + 1, True
        if _PANIC.match(text) and rule.kind is not Kind.PANIC:
            return _with_panic(lines, index, rule)
        if _CUT_HERE.match(text):
            return index, True
        if rule.ends_after_trace and last_trace > position and _is_new_headline(text, rule):
            return last_trace + 1, True
        if text.startswith(("Call Trace:", "call trace:", "Call trace:")):
            in_trace = True
            last_trace = index
        elif text.strip() in ("</TASK>", "</IRQ>", "</NMI>"):
            last_trace = index
            in_trace = text.strip() != "</TASK>"
            if rule.ends_after_trace and not in_trace:
                return _trailer(lines, index + 1, rule), True
        elif in_trace and (_TRACE_LINE.match(text) or text.strip().startswith("<")):
            last_trace = index
        elif in_trace and rule.ends_after_trace and not text.startswith((" ", "RIP", "R", "Code")):
            return last_trace + 1, True
    if rule.ends_after_trace and last_trace > position:
        return last_trace + 1, True
    # Cut off before any end mark: keep what follows while it is the kernel's.
    return limit, False


def _is_new_headline(text: str, rule: Rule) -> bool:
    found = _rule_for(text)
    return found is not None and found is not rule


def _with_panic(lines: Sequence[ConsoleLine], index: int, rule: Rule) -> tuple[int, bool]:
    """An oops that ends in a panic is one splat, up to the panic's own end mark.

    Between both stand only a few lines (registers repeated, "Fixing recursive
    fault"), so a panic further away is a splat of its own.
    """
    if not rule.may_panic:
        return index, True
    for ahead in range(index, min(len(lines), index + 24)):
        if _MARKER.match(lines[ahead].text):
            break
        if _PANIC.match(lines[ahead].text):
            for behind in range(ahead, min(len(lines), ahead + LONGEST)):
                if _END_PANIC.match(lines[behind].text):
                    return behind + 1, True
            return min(len(lines), ahead + 40), False
    return index, True


def _trailer(lines: Sequence[ConsoleLine], index: int, rule: Rule) -> int:
    """KASAN and UBSAN draw a closing rule of = some lines behind the trace."""
    if not rule.closing_rule:
        return index
    for ahead in range(index, min(len(lines), index + 60)):
        if _RULE_LINE.match(lines[ahead].text):
            return ahead + 1
        if _MARKER.match(lines[ahead].text):
            break
    return index


def _splat(
    lines: Sequence[ConsoleLine], headline: int, rule: Rule, blame: Blame, complete: bool
) -> Splat:
    texts = tuple(line.text for line in lines if line.kernel)
    title = lines[headline].text
    panicked = any(_PANIC.match(text) for text in texts)
    return Splat(
        kind=rule.kind,
        title=normalise_title(title),
        fatal=rule.fatal or panicked,
        lines=texts,
        first_line=lines[0].number,
        frames=frames_of(texts),
        blame=blame,
        complete=complete,
    )
