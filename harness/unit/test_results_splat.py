# SPDX-License-Identifier: MIT
"""The splat detector against consoles recorded from real kernels.

``data/splat/linux-*`` were recorded from Debian kernels under QEMU, with the
acceptance suite's alarm module or by the means the name tells (sysrq, no root
file system, init exiting); heads are cut off.  ``linux-6.12-debug-*`` are from the
debug kernel, with the alarm modules of that name.  ``synthetic-*`` are written by
hand after the kernel's sources, for what could not be provoked.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dunelab.errors import UsageError
from dunelab.results.allowlist import parse_allowlist, unexpected
from dunelab.results.console import console_lines
from dunelab.results.splat import Kind, Position, find_splats, parse_frame

DATA = Path(__file__).parent / "data" / "splat"
KERNELS = ("6.1", "6.12")
TEST = "tests/test_alarms.py::test_{}"
TODAY = datetime.date(2026, 11, 21)


def console(name: str) -> str:
    return (DATA / f"{name}.txt").read_text("utf-8")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("alarm", "kind", "title", "fatal", "culprit"),
    [
        ("warn", Kind.WARNING, "WARNING: at dunelab_alarm.c:32 ring_warn", False, "ring_warn"),
        ("bug", Kind.BUG, "kernel BUG at dunelab_alarm.c:37!", False, "ring_bug"),
        ("null", Kind.OOPS, "BUG: kernel NULL pointer dereference, address", False, "ring_null"),
        ("gpf", Kind.GPF, "general protection fault, probably for non-canonical address ADDR",
         False, "ring_gpf"),
        ("list", Kind.LIST_CORRUPTION, "list_del corruption.", False, "ring_list"),
        ("refcount", Kind.REFCOUNT, "refcount_t: addition on 0; use-after-free", False,
         "ring_refcount"),
        ("atomic", Kind.ATOMIC_SLEEP, "BUG: scheduling while atomic", False, "ring_atomic"),
        ("panic", Kind.PANIC, "Kernel panic - not syncing: alarm: a panic on request", True,
         "ring_panic"),
        ("spin", Kind.SOFT_LOCKUP, "watchdog: BUG: soft lockup - CPU stuck for N", False,
         "ring_spin"),
        ("sleep", Kind.HUNG_TASK, "INFO: task init blocked for more than N seconds", False,
         "alarm_ring"),
    ],
)  # fmt: skip
def test_alarm_module(
    kernel: str, alarm: str, kind: Kind, title: str, fatal: bool, culprit: str
) -> None:
    splat = find_splats(console(f"linux-{kernel}-{alarm}"))[0]
    assert splat.kind is kind
    assert title in splat.title
    assert splat.fatal is fatal
    assert splat.complete
    assert splat.blame.position is Position.DURING
    assert splat.blame.test == TEST.format(alarm)
    culprits = [frame for frame in splat.frames if frame.function == culprit]
    assert culprits
    assert culprits[0].module == "dunelab_alarm"
    assert culprit in splat.fingerprint


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("alarm", ["warn", "bug", "null", "gpf", "list", "refcount", "panic"])
def test_one_event_is_one_splat(kernel: str, alarm: str) -> None:
    assert len(find_splats(console(f"linux-{kernel}-{alarm}"))) == 1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("alarm", ["warn", "bug", "null", "gpf", "list", "refcount"])
def test_cut_ends_at_the_end_trace(kernel: str, alarm: str) -> None:
    splat = find_splats(console(f"linux-{kernel}-{alarm}"))[0]
    assert splat.lines[-1].startswith("---[ end trace")
    assert not any("dunelab: " in line for line in splat.lines)
    assert sum("---[ end trace" in line for line in splat.lines) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_warning_keeps_its_message(kernel: str) -> None:
    splat = find_splats(console(f"linux-{kernel}-warn"))[0]
    assert splat.lines[0].startswith("------------[ cut here ]")
    assert "alarm: a warning on request" in splat.lines


@pytest.mark.parametrize("kernel", KERNELS)
def test_oops_that_panics_is_one_fatal_splat(kernel: str) -> None:
    splats = find_splats(console(f"linux-{kernel}-null_panic"))
    assert [splat.kind for splat in splats] == [Kind.OOPS]
    assert splats[0].fatal
    assert any(line.startswith("Kernel panic - not syncing") for line in splats[0].lines)


@pytest.mark.parametrize("kernel", KERNELS)
def test_instruction_pointer_comes_first(kernel: str) -> None:
    splat = find_splats(console(f"linux-{kernel}-null"))[0]
    assert splat.frames[0].function == "ring_null"
    assert splat.frames[0].exact
    assert not splat.frames[1].exact


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("linux-6.1-init", Kind.NO_INIT),
        ("linux-6.12-init", Kind.NO_INIT),
        ("linux-6.1-noroot", Kind.NO_INIT),
        ("linux-6.1-sysrqc", Kind.PANIC),
        ("linux-6.12-sysrqc", Kind.PANIC),
    ],
)
def test_other_ends(name: str, kind: Kind) -> None:
    splats = find_splats(console(name))
    assert [splat.kind for splat in splats] == [kind]
    assert splats[0].fatal
    assert splats[0].complete


@pytest.mark.parametrize(
    ("alarm", "kind", "title", "culprit"),
    [
        ("kasan", Kind.KASAN, "BUG: KASAN: slab-use-after-free in read_again", "read_again.isra.0"),
        ("lockdep", Kind.LOCKDEP, "WARNING: possible circular locking dependency detected",
         "other_then_one"),
    ],
)  # fmt: skip
def test_alarms_of_the_debug_kernel(alarm: str, kind: Kind, title: str, culprit: str) -> None:
    (splat,) = find_splats(console(f"linux-6.12-debug-{alarm}"))
    assert splat.kind is kind
    assert title in splat.title
    assert not splat.fatal
    assert splat.complete
    assert splat.blame.position is Position.DURING
    assert str(splat.blame.test).endswith(f"test_{alarm}_rings[tcg-amd-debug-6.12:debug]")
    modules = {frame.module for frame in splat.frames if frame.function == culprit}
    assert modules == {f"alarm_{alarm}"}
    assert culprit in splat.fingerprint
    assert not any("dunelab: " in line for line in splat.lines)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_clean_boot_raises_no_alarm(kernel: str) -> None:
    assert find_splats(console(f"linux-{kernel}-clean-boot")) == ()


@pytest.mark.parametrize("kernel", KERNELS)
def test_fingerprint_is_the_same_for_every_repetition(kernel: str) -> None:
    splats = find_splats(console(f"linux-{kernel}-spin"))
    soft = {splat.fingerprint for splat in splats if splat.kind is Kind.SOFT_LOCKUP}
    assert len(soft) == 1
    assert Kind.RCU_STALL in {splat.kind for splat in splats}


@pytest.mark.parametrize(
    ("name", "kind", "title"),
    [
        ("synthetic-lockdep", Kind.LOCKDEP, "WARNING: possible circular locking dependency"),
        ("synthetic-rcu-usage", Kind.LOCKDEP, "WARNING: suspicious RCU usage"),
        ("synthetic-kasan", Kind.KASAN, "BUG: KASAN: slab-use-after-free in dune_run"),
        ("synthetic-ubsan", Kind.UBSAN, "UBSAN: shift-out-of-bounds in vcpu.c:12"),
        ("synthetic-kmemleak", Kind.KMEMLEAK, "kmemleak: 3 new suspected memory leaks"),
        ("synthetic-double-fault", Kind.DOUBLE_FAULT, "traps: PANIC: double fault"),
        ("synthetic-warning-7", Kind.WARNING, "WARNING: src/kmod/vcpu.c:77 at dune_run"),
        ("synthetic-hard-lockup", Kind.HARD_LOCKUP, "Watchdog detected hard LOCKUP"),
    ],
)
def test_synthetic(name: str, kind: Kind, title: str) -> None:
    splats = find_splats(console(name))
    assert [splat.kind for splat in splats] == [kind]
    assert title in splats[0].title
    assert not any("unrelated" in line for line in splats[0].lines)


@pytest.mark.parametrize(
    ("headline", "kind"),
    [
        # kernel/locking/lockdep.c of 6.12, all that it prints
        ("WARNING: possible circular locking dependency detected", Kind.LOCKDEP),
        ("WARNING: possible recursive locking detected", Kind.LOCKDEP),
        ("WARNING: possible irq lock inversion dependency detected", Kind.LOCKDEP),
        ("WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected", Kind.LOCKDEP),
        ("WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected", Kind.LOCKDEP),
        ("WARNING: inconsistent lock state", Kind.LOCKDEP),
        ("WARNING: chain_key collision", Kind.LOCKDEP),
        ("WARNING: Nested lock was not taken", Kind.LOCKDEP),
        ("WARNING: bad unlock balance detected!", Kind.LOCKDEP),
        ("WARNING: bad contention detected!", Kind.LOCKDEP),
        ("WARNING: held lock freed!", Kind.LOCKDEP),
        ("WARNING: prog/77 still has locks held!", Kind.LOCKDEP),
        ("WARNING: lock held when returning to user space!", Kind.LOCKDEP),
        ("WARNING: suspicious RCU usage", Kind.LOCKDEP),
        ("[ BUG: Invalid wait context ]", Kind.LOCKDEP),
        ("INFO: trying to register non-static key.", Kind.LOCKDEP),
        ("BUG: MAX_LOCKDEP_ENTRIES too low!", Kind.BUG),
        # mm/slub.c
        ("BUG kmalloc-64 (Tainted: G           O      ): Poison overwritten", Kind.BUG),
        ("BUG filp (Not tainted): Redzone overwritten", Kind.BUG),
    ],
)
def test_headlines_of_the_kernels_checkers(headline: str, kind: Kind) -> None:
    text = f"[    1.000000] {headline}\n[    1.000000] Call Trace:\n[    1.000000]  f+0x1/0x2\n"
    assert [splat.kind for splat in find_splats(text)] == [kind]


def test_blame_moves_with_the_markers() -> None:
    oops = (
        "[    1.000000] BUG: scheduling while atomic: a/1/0x1\n[    1.000000] Call Trace:\n"
        "[    1.000000]  <TASK>\n[    1.000000]  f+0x1/0x2\n[    1.000000]  </TASK>\n"
    )
    text = (
        oops
        + "[    2.000000] dunelab: begin a\n"
        + oops
        + "[    3.000000] dunelab: end a\n"
        + oops
        + "[    4.000000] dunelab: begin b\n"
        + oops
    )
    assert [str(splat.blame) for splat in find_splats(text)] == [
        "before any test",
        "during a",
        "after a",
        "during b",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "[    1.000000] printk: this is no BUG: at all",
        "[    1.000000] traps: prog[99] general protection fault ip:401 sp:7f error:0 in prog[400]",
        "[    1.000000] prog[99]: segfault at 0 ip 0000000000401136 sp 00007ffd error 6 in prog",
        "[    1.000000] traps: prog[12] trap divide error ip:401 sp:7f error:0 in prog",
        "[    1.000000] rcu: Hierarchical RCU implementation.",
        "[    1.000000] Kernel panic on oops is disabled",
        "[    1.000000] x86/fpu: Oops-free",
        "[    1.000000] dune: declining to load, as asked",
        "[    1.000000] ACPI BIOS Warning (bug): Incorrect checksum",
    ],
)
def test_no_false_alarm(line: str) -> None:
    assert find_splats(line + "\n") == ()


def test_a_programs_own_output_is_no_splat() -> None:
    text = (
        "[    1.000000] booted\nBUG: my own program prints this\nKernel panic - not syncing: ha\n"
    )
    assert find_splats(text) == ()


def test_without_time_stamps_every_line_counts() -> None:
    assert find_splats("Kernel panic - not syncing: early\n")[0].fatal


def test_stamps_and_escapes_are_taken_off() -> None:
    lines = console_lines("<4>[    1.5][  T1] x\n\x1b[0m[    1.500000][    T1] text\r\n")
    assert lines[1].text == "text"
    assert lines[1].kernel


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" dune_run+0x12/0x340 [dune]", "dune_run+0x12/0x340 [dune]"),
        (" dune_run.cold+0x12/0x34 [dune 0123abcd]", "dune_run.cold+0x12/0x34 [dune]"),
        ("RIP: 0010:ring_null+0x15/0x30 [dunelab_alarm]", "ring_null+0x15/0x30 [dunelab_alarm]"),
    ],
)
def test_frames(text: str, shown: str) -> None:
    assert str(parse_frame(text)) == shown


def test_doubtful_frames_are_marked() -> None:
    frame = parse_frame(" ? do_fault+0x1a7/0x410")
    assert frame is not None
    assert not frame.sure


def test_a_console_cut_off_mid_oops() -> None:
    text = console("linux-6.1-null")
    cut = text[: text.index("Call Trace")]
    splat = find_splats(cut)[0]
    assert splat.kind is Kind.OOPS
    assert not splat.complete


@settings(deadline=None)  # a loaded machine is no defect
@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    find_splats(text)


@settings(deadline=None)  # a loaded machine is no defect
@given(st.integers(0, 5000))
def test_any_cut_of_a_real_log_is_read(length: int) -> None:
    text = console("linux-6.1-null_panic")[:length]
    for splat in find_splats(text):
        assert splat.lines


ENTRY = """
[[allow]]
pattern = 'dunelab_alarm\\.c:32'
reason = "rings on purpose"
link = "docs/harness.md"
expires = {}
"""


@pytest.mark.parametrize(("expires", "left"), [("2026-11-22", 0), ("2026-11-21", 1)])
def test_an_allowlist_entry_covers_until_its_date(expires: str, left: int) -> None:
    allowed = parse_allowlist(ENTRY.format(expires), "here")
    splats = find_splats(console("linux-6.1-warn"))
    assert len(unexpected(splats, allowed, TODAY)) == left


def test_a_fatal_splat_is_never_allowed() -> None:
    allowed = parse_allowlist(
        ENTRY.format("2030-01-01").replace("dunelab_alarm", ".").replace("\\.c:32", "*"), "here"
    )
    splats = find_splats(console("linux-6.1-panic"))
    assert len(unexpected(splats, allowed, TODAY)) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[allow]]\npattern = 'x'\n", "needs exactly the keys"),
        (ENTRY.format('"2027-01-01"'), "must be a date"),
        (ENTRY.format("2027-01-01").replace('"rings on purpose"', '""'), "reason must be"),
        (ENTRY.format("2027-01-01").replace("dunelab_alarm", "("), "no regular expression"),
        ("this is not toml", "no TOML"),
        ("[other]\n", "besides"),
    ],
)
def test_allowlist_defects_are_named(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_allowlist(text, "here")
