# SPDX-License-Identifier: MIT
"""strace and gdb look at a Dune process from outside, on the full guest."""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import CommandResult

pytestmark = [
    pytest.mark.guest_variant(image="full"),
    pytest.mark.guest_group("real"),
    pytest.mark.slow,
]

HERE = Path(__file__).resolve().parent
REMOTE = f"{GUEST_FOLDER}/tracers"
WORK = "/tmp/tracers"  # noqa: S108 - a folder in the guest
SECONDS = 300.0

Run = Callable[[str], CommandResult]


@pytest.fixture
def run(guest: Machine, guest_context: Guest) -> Run:
    """Run shell text in a folder with the programs of data/tracers."""
    sources = sorted((HERE / "data" / "tracers").iterdir())
    push_once(guest_context, {f"tracers/{path.name}": path for path in sources})
    guest.succeed(
        f"mkdir -p {WORK} && cd {WORK} && for c in calls target; do "
        f"[ -e $c ] || gcc -g -O1 -w -o $c {REMOTE}/$c.c || exit; done",
        Deadline.after(SECONDS, "compiler in the guest"),
    )

    def run(text: str) -> CommandResult:
        return guest.run(
            f"cd {WORK} || exit\n{text}", Deadline.after(SECONDS, "end of what is traced")
        )

    return run


# -- strace ---------------------------------------------------------------------------

# Calls whose arguments show where things are, or what libdune makes of them.
VAGUE = ("brk", "clone", "clone3", "close_range", "getrandom", "rt_sigaction")
# Made as another call.
MADE_AS = {"vfork": "clone"}
# It restores what it was not called with: a result of libdune's.
NO_RESULT = ("rt_sigreturn",)
NOT_MADE = ("rseq",)
# Where a line may have the number of a process; others may look like one.
PID = re.compile(r"(?<=[(=\[ ])\d+(?=[],)}]|$)")


# Of programs that trace nothing: how often the two are run until a pair of runs agrees.
# When a child ends between two calls of its parent is for no one to say, natively either.
ATTEMPTS = 4


@dataclass(frozen=True)
class Traced:
    """A command, how it ends, and how many threads and processes it is."""

    command: str
    status: int
    threads: int


TRACED = {
    "threads": Traced("./calls", 0, 6),
    "bash": Traced(f"bash {REMOTE}/script.sh", 128 + signal.SIGTERM, 8),
    "python": Traced(f"python3 -S {REMOTE}/script.py", 6, 5),
}


def plain(text: str) -> str:
    """A line of strace's without what differs from run to run."""
    text = re.sub(r"si_[us]time=\d+( /\*.*?\*/)?(, )?", "", text)
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    text = re.sub(r"/\* \d+ vars \*/", "", text)
    # /proc/self/stat, in which Python looks for its number of threads.
    text = re.sub(r'^(read\(\d+, )"\d+ \(.*', r"\1STAT", text)
    text = re.sub(r",(?=\S)", ", ", text)
    return re.sub(r" +", " ", text).strip()


def threads_of(log: str) -> list[list[str]]:
    """The calls and signals of each thread, the threads in the order of their birth."""
    begun: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for line in log.splitlines():
        pid, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[pid] = text.removesuffix("<unfinished ...>").rstrip()
            continue
        text = re.sub(r"^<\.\.\. \w+ resumed>", lambda _, pid=pid: begun[pid], text)
        found.setdefault(pid, []).append(text)
    births = sorted(found, key=int)
    named = {pid: f"PID{number}" for number, pid in enumerate(births)}

    def shown(text: str) -> str:
        name = text.partition("(")[0]
        name = MADE_AS.get(name, name)
        if name in NO_RESULT:
            return name
        if name in VAGUE:
            text = f"{name} {text.rpartition(' = ')[2]}"
        return PID.sub(lambda word: named.get(word[0], word[0]), plain(text))

    return [
        [shown(text) for text in found[pid] if text.partition("(")[0] not in NOT_MADE]
        for pid in births
    ]


def logged(run: Run, case: Traced, before: str = "", through: str = "cat") -> list[list[str]]:
    """What strace -f says of a command, by thread.

    The numbers of processes begin at the same place each time, far from others.
    """
    done = run(
        "rm -rf empty && mkdir empty && cd empty && cp ../calls . && "
        "echo 30000 >/proc/sys/kernel/ns_last_pid\n"
        f"PYTHONHASHSEED=0 strace -f -o ../log {before} {case.command} >../out\n"
        f"echo $? >../status; {through} ../log"
    )
    told = run("cat status out; grep -c -- '-55056, SEEK_SET' log").stdout.splitlines()
    assert int(told[0]) == case.status, done.stderr
    # Many of the lseek by which it runs in guest mode, or none.
    assert (int(told[-1]) > 10) == bool(before)
    return threads_of(done.stdout)


def difference(native: list[list[str]], dune: list[list[str]]) -> list[str]:
    """What of the calls of any thread is not the same."""
    if len(native) != len(dune):
        return [f"{len(native)} threads natively, {len(dune)} in Dune mode"]
    return [
        line
        for wanted, found in zip(native, dune, strict=True)
        for line in difflib.unified_diff(wanted, found, "native", "dune", lineterm="", n=1)
    ]


@pytest.mark.parametrize("name", TRACED)
def test_strace_prints_the_same_calls(run: Run, name: str) -> None:
    """Threads, signals, restarts, fork, vfork, exec: call for call."""
    case = TRACED[name]
    natives, dunes = [], []
    for _ in range(ATTEMPTS):
        native = logged(run, case)
        assert len(native) == case.threads
        # dune-run is what is executed here, and the filter starts behind it.
        assert native[0].pop(0).startswith("execve(")
        natives.append(native)
        dunes.append(logged(run, case, "dune-run", "dune-strace"))
        found = min((difference(a, b) for a in natives for b in dunes), key=len)
        if not found:
            break
    assert not found, "\n".join(found)


# It is busy when it says so.
START_TARGET = """
    dune-run ./target >out & pid=$!
    until grep -qs busy out; do sleep 0.1; done
"""


def test_strace_attaches(run: Run) -> None:
    """strace -p shows the calls of a running process, lets it go, and it lives on."""
    done = run(
        f"rm -f log\n{START_TARGET}"
        "strace -f -o log -p $pid & tracer=$!\n"
        "until [ \"$(grep -c 'clock_nanosleep(' log)\" -gt 5 ] 2>/dev/null; do sleep 0.1; done\n"
        "kill -TERM $tracer; wait $tracer\n"
        "kill -0 $pid && kill -TERM $pid; wait $pid; echo $?"
    )
    assert done.stdout == "143\n", done.stderr


# -- gdb ------------------------------------------------------------------------------

COMMANDS = (
    "info threads",
    "print *(char (*)[16])secret",
    "print counter > 0",
    "shell (sleep 1; kill -INT $(cat pid)) &",
    "continue",
    "print told",
    "set var told = 5",
    "detach",
)


def test_gdb_attaches(run: Run) -> None:
    """It interrupts, reads and writes memory, detaches; the process lives on in ring 0."""
    words = " ".join(f"-ex '{command}'" for command in COMMANDS)
    done = run(
        f"{START_TARGET}echo $pid >pid\n"
        f"gdb -nx -batch {words} -p $(cat pid) </dev/null 2>&1\n"
        "wait $(cat pid); echo status $?; cat out"
    )
    assert len(re.findall(r"^[* ] +\d+ +Thread ", done.stdout, re.MULTILINE)) == 2, done.stdout
    assert '"found in memory"' in done.stdout
    assert "$2 = 1" in done.stdout
    assert "received signal SIGINT" in done.stdout
    assert "$3 = 0" in done.stdout
    assert done.stdout.endswith("status 21\nbusy\ntold 5, privilege level 0\n")
