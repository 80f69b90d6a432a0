# SPDX-License-Identifier: MIT
"""Real programs do under dune-run and dune-sandbox what they do natively, on the full guest.

Each case is a bash script of ``data/real_programs``.  It runs natively and then
under one of the two, both in an empty folder of the same name; standard output is the
same to the byte, and so is the exit status.  Meanwhile the module's list of vCPUs
is watched: the programs that the case is about must have been in guest mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from guest_shell import natively

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import Cell, CommandResult, EngineName

pytestmark = [
    pytest.mark.guest_variant(image="full"),
    pytest.mark.guest_group("real"),
    pytest.mark.thorough,
]

DATA = Path(__file__).resolve().parent / "data" / "real_programs"
REMOTE = f"{GUEST_FOLDER}/real_programs"
WORK = "/tmp/real"  # noqa: S108 - a folder in the guest
SEEN = "/tmp/real.seen"  # noqa: S108


@dataclass(frozen=True)
class Case:
    """A script, its exit status, and the programs it must have run in guest mode.

    ``seconds``: what it takes on TCG and hardware, and on Bochs, both ways together.
    """

    name: str
    inside: tuple[str, ...]
    seconds: tuple[int, int]
    status: int = 0
    quick: bool = False

    def slow_mark(self) -> pytest.MarkDecorator:
        """On Bochs all are slow ones."""
        tcg, bochs = self.seconds
        if self.quick:
            return pytest.mark.slow(bochs=bochs)
        return pytest.mark.slow(bochs=bochs, tcg=tcg, kvm=tcg)

    def limit(self, engine: EngineName) -> float:
        """When a run is given up."""
        return 60 + 5.0 * self.seconds[engine is EngineName.BOCHS]


CASES = (
    Case("bash", ("bash",), (20, 30), status=9, quick=True),
    Case("jobs", ("bash", "sleep"), (30, 80), quick=True),
    Case("terminal", ("python3", "bash"), (20, 90)),
    Case("coreutils", ("bash", "sort", "sleep"), (20, 100)),
    Case("python", ("python3",), (30, 140), status=7, quick=True),
    Case("gcc", ("cc1", "ld"), (30, 130)),
    Case("perl", ("perl",), (60, 80), status=6),
    Case("make", ("make", "cc1"), (60, 50)),
    Case("archives", ("xz",), (60, 130)),
    Case("git", ("git",), (60, 30)),
    Case("openssl", ("openssl",), (60, 150)),
    Case("sqlite", ("sqlite3",), (60, 20)),
    Case("redis", ("redis-server", "redis-benchmark"), (60, 50)),
    Case("nginx", ("nginx", "ab"), (60, 50), status=1),
    Case("go", ("fzf",), (60, 40)),
    Case("java", ("java",), (60, 640), status=4),
    Case("strace", ("strace",), (60, 20)),
    Case("gdb", ("gdb",), (60, 240)),
    Case("musl", ("many",), (60, 90), status=3),
)

# strace and gdb trace, which nothing in a sandbox may.
NOT_IN_A_SANDBOX = ("strace", "gdb")
RUNNERS = {"dune-run": "dune-run", "dune-sandbox": "dune-sandbox --allow-all"}

Compare = Callable[[Case, str], None]


@pytest.fixture
def compare(guest: Machine, guest_context: Guest, cell: Cell) -> Compare:
    """Run a case both ways, each in an empty folder, and compare."""
    files = {f"real_programs/{path.name}": path for path in sorted(DATA.iterdir())}
    push_once(guest_context, files)

    def run(case: Case, before: str, runner: str = "") -> CommandResult:
        script = f"{REMOTE}/{case.name}.sh"
        limit = case.limit(cell.engine)
        return guest.run(
            f"rm -rf {WORK} && mkdir {WORK} && cd {WORK} && "
            f"{before} bash {script} </dev/null; exit $?",
            Deadline.after(limit, f"end of {case.name} ({before or 'native'})"),
            env={"DATA": REMOTE, "LC_ALL": "C.UTF-8", "RUNNER": runner},
        )

    def both(case: Case, runner: str) -> None:
        native = natively(cell.engine, case.name, lambda: run(case, ""), case.status)
        dune = run(case, f"bash {REMOTE}/observe {SEEN}", RUNNERS[runner])
        assert dune.stdout == native.stdout, dune.stderr
        assert dune.exit_status == native.exit_status, dune.stderr
        seen = guest.succeed(f"cat {SEEN}", Deadline.after(60, "list of programs in guest mode"))
        assert set(case.inside) <= set(seen.splitlines())

    return both


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=case.slow_mark()) for case in CASES]
)
def test_same_as_native(compare: Compare, case: Case) -> None:
    compare(case, "dune-run")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=case.slow_mark())
        for case in CASES
        if case.name not in NOT_IN_A_SANDBOX
    ],
)
def test_same_in_a_sandbox(compare: Compare, case: Case) -> None:
    compare(case, "dune-sandbox")
