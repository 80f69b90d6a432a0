# SPDX-License-Identifier: MIT
"""Which kernel lines start a splat: a table, one rule per family.

Every pattern is matched at the start of the kernel's own text (the time stamp
is gone by then).  The order matters: the first rule that matches wins, so the
special ones stand above the general ones.  Sources of the wording: in the
kernel tree arch/x86/kernel/dumpstack.c, arch/x86/mm/fault.c, kernel/panic.c,
kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h,
kernel/locking/lockdep.c, lib/bug.c, lib/list_debug.c, lib/refcount.c,
lib/ubsan.c, mm/kasan/report.c, mm/kmemleak.c, mm/slub.c, kernel/sched/core.c.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The families of splats."""

    PANIC = "panic"
    OOPS = "oops"
    BUG = "bug"
    GPF = "general protection fault"
    DOUBLE_FAULT = "double fault"
    WARNING = "warning"
    KASAN = "kasan"
    UBSAN = "ubsan"
    LOCKDEP = "lockdep"
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    HUNG_TASK = "hung task"
    RCU_STALL = "rcu stall"
    LIST_CORRUPTION = "list corruption"
    REFCOUNT = "refcount"
    ATOMIC_SLEEP = "sleep in atomic context"
    KMEMLEAK = "kmemleak"
    BAD_PAGE = "bad page state"
    NO_INIT = "no init"


@dataclass(frozen=True)
class Rule:
    """How one family starts and how its extent is told.

    ``fatal``: the kernel ends here by its own decision.  An oops is not fatal:
    the guest may live on, although nobody should use it further.
    ``ends_after_trace``: there is no "end trace" mark, the call trace is the end.
    ``may_panic``: with panic_on_oops and the like a panic follows and belongs to it.
    ``prelude``: a second headline of the same event follows within a few lines.
    """

    kind: Kind
    pattern: re.Pattern[str]
    fatal: bool = False
    ends_after_trace: bool = False
    single_line: bool = False
    closing_rule: bool = False
    may_panic: bool = True
    prelude: bool = False


def _rule(
    kind: Kind,
    pattern: str,
    *,
    fatal: bool = False,
    ends_after_trace: bool = False,
    single_line: bool = False,
    closing_rule: bool = False,
    may_panic: bool = True,
    prelude: bool = False,
) -> Rule:
    return Rule(
        kind,
        re.compile(pattern),
        fatal=fatal,
        ends_after_trace=ends_after_trace,
        single_line=single_line,
        closing_rule=closing_rule,
        may_panic=may_panic,
        prelude=prelude,
    )


_LOCKDEP = (
    r"WARNING: (?:possible (?:circular locking dependency|recursive locking|"
    r"irq lock inversion dependency) detected|inconsistent lock state|"
    r"suspicious RCU usage|bad (?:unlock balance|contention) detected|held lock freed|"
    r"lock held when returning to user space|Nested lock was not taken|chain_key collision|"
    r"\S+/\d+ still has locks held|"
    r"(?:HARDIRQ|SOFTIRQ)-safe -> (?:HARDIRQ|SOFTIRQ)-unsafe lock order detected)|"
    r"\[ BUG: Invalid wait context \]|INFO: trying to register non-static key"
)

RULES: tuple[Rule, ...] = (
    _rule(
        Kind.NO_INIT,
        r"Kernel panic - not syncing: (?:VFS: Unable to mount root|"
        r"No working init found|Attempted to kill init|Requested init)",
        fatal=True,
    ),
    _rule(Kind.PANIC, r"Kernel panic - not syncing\b", fatal=True),
    _rule(Kind.KASAN, r"BUG: KASAN: ", ends_after_trace=True, closing_rule=True),
    _rule(Kind.SOFT_LOCKUP, r"(?:watchdog: )?BUG: soft lockup - CPU", ends_after_trace=True),
    _rule(
        Kind.HARD_LOCKUP,
        r"(?:NMI )?(?:watchdog: )?(?:CPU\d+: )?"
        r"Watchdog detected hard LOCKUP",
        fatal=True,
        ends_after_trace=True,
    ),
    _rule(
        Kind.ATOMIC_SLEEP,
        r"BUG: (?:scheduling while atomic|sleeping function called from "
        r"invalid context|using \w+\(\) in preemptible|workqueue leaked lock or atomic)",
        ends_after_trace=True,
    ),
    _rule(Kind.BAD_PAGE, r"BUG: Bad (?:page|rss-counter|page map|swap)", ends_after_trace=True),
    _rule(
        Kind.OOPS,
        r"BUG: (?:kernel NULL pointer dereference|unable to handle|"
        r"stack guard page was hit|kernel stack overflow|TASK stack guard page|"
        r"supervisor (?:read|write|instruction))",
    ),
    _rule(
        Kind.OOPS,
        r"kernel tried to execute (?:NX-protected page|user)|Missing ENDBR: ",
        prelude=True,
    ),
    _rule(Kind.LIST_CORRUPTION, r"list_(?:add|del|lru)\w* corruption\b", prelude=True),
    _rule(Kind.REFCOUNT, r"refcount_t: ", prelude=True),
    _rule(Kind.BUG, r"kernel BUG at "),
    # A user program's fault is logged as "traps: name[pid] general protection fault ip:...",
    # which starts otherwise.
    _rule(Kind.GPF, r"(?:Oops: )?general protection fault\b"),
    _rule(
        Kind.DOUBLE_FAULT,
        r"(?:traps: )?(?:PANIC: )?double fault\b|"
        r"Oops: double fault\b",
        fatal=True,
    ),
    _rule(
        Kind.OOPS,
        r"(?:Oops|stack segment|int3|divide error|invalid opcode|"
        r"control protection|segment not present|invalid TSS|bounds|"
        r"coprocessor segment overrun|alignment check|overflow): [0-9a-f]{4} \[#\d+\]",
    ),
    _rule(Kind.OOPS, r"Oops: \S"),
    _rule(Kind.LOCKDEP, _LOCKDEP, ends_after_trace=True),
    _rule(Kind.WARNING, r"WARNING: CPU: \d+ PID: \d+ at "),
    # Newer kernels put the place first: "WARNING: file:line at function+0x1/0x2, CPU#0: comm/1".
    _rule(Kind.WARNING, r"WARNING: \S+:\d+ at |WARNING: at "),
    _rule(
        Kind.WARNING,
        r"WARNING: (?:kernel stack|stack (?:recursion|going)|"
        r"can't (?:dereference|access) registers)",
        single_line=True,
    ),
    _rule(Kind.UBSAN, r"UBSAN: ", ends_after_trace=True, closing_rule=True),
    _rule(
        Kind.HUNG_TASK, r"INFO: task \S+ blocked for more than \d+ seconds", ends_after_trace=True
    ),
    _rule(
        Kind.RCU_STALL,
        r"(?:rcu: )?INFO: \w+ (?:self-)?detected (?:expedited )?stalls?\b",
        ends_after_trace=True,
    ),
    _rule(Kind.KMEMLEAK, r"kmemleak: \d+ new suspected memory leaks", single_line=True),
    _rule(Kind.BUG, r"BUG: ", ends_after_trace=True),
    # The allocator's own: "BUG kmalloc-64 (Tainted: G    O): Poison overwritten".
    _rule(Kind.BUG, r"BUG \S+ \([^)]*\): ", ends_after_trace=True),
)
