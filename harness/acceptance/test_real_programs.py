# SPDX-License-Identifier: MIT
"""Real programs do under dune-run what they do natively, on the full guest.

Each case is a bash script of ``data/real_programs``.  It runs natively and then
under dune-run, both in an empty folder of the same name; standard output is the
same to the byte, and so is the exit status.  Meanwhile the module's list of vCPUs
is watched: the programs that the case is about must have been in guest mode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import CommandResult

pytestmark = [pytest.mark.guest_variant(image="full"), pytest.mark.guest_group("real")]

DATA = Path(__file__).resolve().parent / "data" / "real_programs"
REMOTE = f"{GUEST_FOLDER}/real_programs"
WORK = "/tmp/real"  # noqa: S108 - a folder in the guest
SEEN = "/tmp/real.seen"  # noqa: S108


@dataclass(frozen=True)
class Case:
    """A script, its exit status, and the programs it must have run in guest mode."""

    name: str
    inside: tuple[str, ...]
    status: int = 0
    seconds: float = 600.0


# A minute each on tcg, at most; on Bochs the guest alone takes longer to boot.
QUICK = (
    Case("bash", ("bash",), status=9),
    Case("jobs", ("bash", "sleep")),
    Case("terminal", ("python3", "bash")),
    Case("coreutils", ("bash", "sort", "sleep")),
    Case("python", ("python3",), status=7),
    Case("gcc", ("cc1", "ld")),
)
LONG = (
    Case("perl", ("perl",), status=6),
    Case("make", ("make", "cc1")),
    Case("archives", ("xz",)),
    Case("git", ("git",)),
    Case("openssl", ("openssl",)),
    Case("sqlite", ("sqlite3",)),
    Case("redis", ("redis-server", "redis-benchmark")),
    Case("nginx", ("nginx", "ab"), status=1),
    Case("go", ("fzf",)),
    Case("java", ("java",), status=4),
    Case("strace", ("strace",)),
    Case("gdb", ("gdb",)),
    Case("musl", ("many",), status=3),
)

Compare = Callable[[Case], None]


def each(cases: tuple[Case, ...]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


@pytest.fixture
def compare(guest: Machine, guest_context: Guest) -> Compare:
    """Run a case both ways, each in an empty folder, and compare."""
    files = {f"real_programs/{path.name}": path for path in sorted(DATA.iterdir())}
    push_once(guest_context, files)

    def run(case: Case, before: str) -> CommandResult:
        script = f"{REMOTE}/{case.name}.sh"
        return guest.run(
            f"rm -rf {WORK} && mkdir {WORK} && cd {WORK} && "
            f"{before} bash {script} </dev/null; exit $?",
            Deadline.after(case.seconds, f"end of {case.name} ({before or 'native'})"),
            env={"DATA": REMOTE, "LC_ALL": "C.UTF-8"},
        )

    def both(case: Case) -> None:
        native = run(case, "")
        assert native.exit_status == case.status, native.stdout + native.stderr
        dune = run(case, f"bash {REMOTE}/observe {SEEN}")
        assert dune.stdout == native.stdout, dune.stderr
        assert dune.exit_status == native.exit_status, dune.stderr
        seen = guest.succeed(f"cat {SEEN}", Deadline.after(60, "list of programs in guest mode"))
        assert set(case.inside) <= set(seen.splitlines())

    return both


@pytest.mark.only_engines("kvm", "tcg")
@each(QUICK)
def test_same_as_native(compare: Compare, case: Case) -> None:
    compare(case)


@pytest.mark.slow
@pytest.mark.only_engines("bochs")
@each(QUICK)
def test_same_as_native_on_bochs(compare: Compare, case: Case) -> None:
    compare(case)


@pytest.mark.slow
@each(LONG)
def test_long_same_as_native(compare: Compare, case: Case) -> None:
    compare(case)
