# SPDX-License-Identifier: MIT
"""Programs written for the original Dune, from a checkout of it that the user names.

They are compiled as they are, with the compiler that everything else is compiled with,
and must print what their sources say.  None of them is part of this project; without
``--dune-programs`` there is nothing to run.  docs/porting.md tells where they come from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePosixPath

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.builder import COMPILER, WORK
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once
from dunelab.spec import CommandResult

pytestmark = pytest.mark.guest_group("existing_programs")

COMPILE_SECONDS = 120.0
FOLDER = f"{GUEST_FOLDER}/existing"
CHECKOUT = f"{WORK}/dune"
LIBRARY = f"{WORK}/libdune"
OUT = f"{WORK}/out"
DATA = Path(__file__).resolve().parent / "data/existing_programs"
OWN = f"{WORK}/own"


class Linked(StrEnum):
    """How a program is linked; the original's own Makefiles say static."""

    STATIC = "static"
    PIE = "pie"
    SHARED = "shared"


LINK = {
    Linked.STATIC: ("-static", "-no-pie", f"{LIBRARY}/libdune.a"),
    Linked.PIE: ("-fPIE", "-pie", f"{LIBRARY}/libdune.a"),
    Linked.SHARED: ("-fPIE", "-pie", f"-L{LIBRARY}", "-ldune"),
}


@dataclass(frozen=True)
class Existing:
    """A program of the checkout, and the lines that it must print, in this order."""

    sources: tuple[str, ...]
    says: tuple[str, ...]
    flags: tuple[str, ...] = ()
    args: str = ""
    status: int = 0
    seconds: float = 60.0

    @property
    def name(self) -> str:
        """Its name, with the folder: the original has two posted_ipi."""
        return self.sources[0].removesuffix(".c").replace("/", "-")


PROGRAMS = (
    Existing(
        ("test/hello.c",),
        (
            "hello: not running dune yet",
            "hello: now printing from dune mode",
            "hello: caught divide by zero!",
            "hello: recovered from divide by zero",
        ),
        # GCC makes a comparison of the division that the program wants to fail.
        flags=("-fnon-call-exceptions",),
    ),
    Existing(
        ("test/test.c",),
        (
            "Doing tests",
            "==== Test fork - passed",
            "==== Test pthread - passed",
            "==== Test signal - passed",
            "Done all tests",
        ),
    ),
    Existing(("test/timetest.c",), (r"Success! t=[1-9]\d+",)),
    # Its module looks into the original's; without it this is as far as it goes.
    Existing(("test/hugepages.c",), (r"open\(/dev/hugepages_mod\): No such file.*",), status=1),
    Existing(
        ("bench/bench_dune_ring.c",),
        (
            r"testing page fault from G3\.\.\. \[passed\]",
            r"measuring round-trip G3 syscall performance\.\.\. \[took \d+ cycles\]",
        ),
    ),
)
BENCH_DUNE = Existing(
    ("bench/bench_dune.c",),
    (
        r"Benchmarking dune performance\.\.\.",
        *(
            rf"{what} took \d+ cycles"
            for what in (
                *("System call", "Kernel fault", "User fault"),
                *("PROT1,TRAP,UNPROT", "PROTN,TRAP,UNPROT"),
            )
        ),
    ),
    # It keeps a time for its handler in a variable that is not volatile.
    flags=("-fno-tree-loop-im",),
    seconds=600.0,
)

SANDBOX = tuple(f"apps/sandbox/{name}.c" for name in ("main", "umm", "trap", "exec"))
# Where sandbox.ld puts the sandbox, which leaves the low addresses to its program.
HIGH = "-Wl,-Ttext-segment=0x70000000"
SANDBOXED = (
    Existing(
        ("apps/sandbox/nullsandbox.c", *SANDBOX),
        ("=+ test_thread_memory", "PASSED", "=+ test_pthread_fork", "PASSED"),
        flags=(HIGH,),
        args="./test_sandbox",
        # A hundred thousand pages come and go.
        seconds=600.0,
    ),
    Existing(
        ("apps/ufirewall/firewall.c", *SANDBOX),
        (
            # First what it runs: its own lines are written when it ends.
            r"bind 0\.0\.0\.0 1234: 0",
            r"bind 0\.0\.0\.0 4321: 1",
            # Permitted: there is no such host, which is found now or later.
            r"connect 171\.1\.2\.3 9: (101|113|115)",
            r"connect 171\.1\.2\.3 22: 1",
            r"connect 127\.0\.0\.1 9: 1",
            "parsing 'ufw.rules'",
            "--- Begin Firewall Rules ---",
            "allow bind 1234",
            "--- End Firewall Rules ---",
        ),
        flags=(HIGH, f"-I{CHECKOUT}/apps/sandbox"),
        args="./sockets",
    ),
)
WEDGE = "apps/wedge/sthread.c"
WEDGES = (
    Existing(
        ("apps/wedge/test.c", WEDGE),
        tuple(
            f"==== {name}"
            for name in (
                *("start", "Basic sthread", "Globals", "Stack", "smalloc", "fd", "syscall"),
                *("parallel", "end"),
            )
        ),
        flags=("-O0",),
    ),
    Existing(
        ("apps/wedge/bench.c", WEDGE),
        ("fork", r"Avg \d+ .*", "pthread", r"Avg \d+ .*", "sthread", r"Avg \d+ .*", "all done"),
        flags=("-O0",),
        args="0",
    ),
    Existing(
        ("apps/wedge/bench.c", WEDGE),
        ("still alive", "No switch", r"result 1 \d+ \d+ \d+", "Still ballin", "all done"),
        flags=("-O0",),
        args="2 1 1",
    ),
)

IPI = Existing(
    ("test/posted_ipi.c",),
    (
        "Thread pinned to core 10.",
        "posted_ipi: now printing from dune mode on core 10",
        "About to send posted IPIs to 10 cores",
        *("posted_ipi: received posted IPI on core .*",) * 10,
    ),
)
IPI_BENCH = Existing(
    ("bench/posted_ipi.c",),
    ("posted_ipi: about to send posted IPI", r"Latency: \d+ cycles\."),
    seconds=300.0,
)


@dataclass(frozen=True)
class Workshop:
    """Compiles programs of the checkout in the builder root."""

    checkout: Path
    lab: DuneLab
    out: Path

    def compile(self, program: Existing, linked: Linked) -> Path:
        """The executable."""
        name = f"{program.name}-{linked}"
        self._gcc(
            name,
            *(f"-I{LIBRARY}/include", f"-I{LIBRARY}/include/libdune"),
            *program.flags,
            *(str(PurePosixPath(CHECKOUT) / source) for source in program.sources),
            *LINK[linked],
        )
        return self.out / name

    def compile_with(self, program: Existing, own: str) -> Path:
        """The executable, static, with a source of ours beside those of the checkout."""
        sources = (*program.sources, f"{OWN}/{own}")
        return self.compile(replace(program, sources=sources), Linked.STATIC)

    def plain(self, name: str, source: str) -> Path:
        """A program that knows nothing of Dune, static: what the sandbox runs."""
        self._gcc(name, source, f"{OWN}/brk_first.S", "-static", "-no-pie", "-Wl,-e,brk_first")
        return self.out / name

    def _gcc(self, name: str, *words: str) -> None:
        # The sources are not ours to correct: -w.
        self.lab.store.builder.run(
            [COMPILER, "-std=gnu17", "-O2", "-g", "-w", "-pthread", "-o", f"{OUT}/{name}", *words],
            binds={
                self.checkout: CHECKOUT,
                self.lab.store.programs().library: LIBRARY,
                self.out: OUT,
                DATA: OWN,
            },
            log=self.out / f"{name}.log",
            deadline=Deadline.after(COMPILE_SECONDS, f"compiling {name}"),
            what=f"compiling {name}",
        )


@pytest.fixture
def workshop(lab: DuneLab, tmp_path: Path, pytestconfig: pytest.Config) -> Workshop:
    """Skips, with the reason, where no checkout was named."""
    named = pytestconfig.getoption("dunelab_dune_programs")
    if not named:
        pytest.skip("no checkout of the original Dune was named: --dune-programs DIR")
    checkout = Path(named).resolve()
    if not (checkout / "test/hello.c").is_file():
        pytest.fail(f"--dune-programs {named}: there is no test/hello.c below it")
    return Workshop(checkout, lab, tmp_path)


Run = Callable[..., CommandResult]


@pytest.fixture
def run(guest_context: Guest, lab: DuneLab) -> Run:
    """Run a program in a folder of the guest, with what it needs beside it."""

    def in_guest(program: Existing, binary: Path, *beside: Path) -> CommandResult:
        push_once(guest_context, {path.name: path for path in lab.libraries()})
        machine = guest_context.machine
        deadline = Deadline.after(program.seconds, f"end of {binary.name}")
        machine.run(f"mkdir -p {FOLDER}", deadline)
        for file in (binary, *beside):
            machine.push(file, f"{FOLDER}/{file.name}", 0o755)
        return machine.run(
            f"cd {FOLDER} && ./{binary.name} {program.args} 2>&1; exit $?",
            deadline,
            env={"LD_LIBRARY_PATH": GUEST_FOLDER},
        )

    return in_guest


def judge(program: Existing, result: CommandResult) -> None:
    """All lines that it must print, in their order, and its exit status."""
    __tracebackhide__ = True
    lines = iter(result.stdout.splitlines())
    for wanted in program.says:
        assert any(re.search(rf"{wanted}$", line) for line in lines), (
            f"{program.name} did not print '{wanted}' where it should:\n{result.stdout}"
        )
    assert result.exit_status == program.status, (
        f"{program.name} ended with status {result.exit_status}:\n{result.stdout}"
    )


def ids(programs: tuple[Existing, ...]) -> list[str]:
    """Their names in the names of the tests."""
    return [program.name for program in programs]


@pytest.mark.parametrize("linked", Linked)
@pytest.mark.parametrize("program", PROGRAMS, ids=ids(PROGRAMS))
def test_program(program: Existing, linked: Linked, workshop: Workshop, run: Run) -> None:
    """The tests and the benchmark of ring 3."""
    judge(program, run(program, workshop.compile(program, linked)))


@pytest.mark.slow(bochs=400, tcg=60)
def test_benchmark(workshop: Workshop, run: Run) -> None:
    """The paper's figures: it takes ten thousand turns of each."""
    judge(BENCH_DUNE, run(BENCH_DUNE, workshop.compile(BENCH_DUNE, Linked.STATIC)))


@pytest.mark.slow(bochs=60)
@pytest.mark.parametrize("program", SANDBOXED, ids=ids(SANDBOXED))
def test_sandboxed(program: Existing, workshop: Workshop, run: Run) -> None:
    """Ring 3 with the sandbox's page tables; what it runs is static, as it must be."""
    beside = (
        workshop.plain("test_sandbox", f"{CHECKOUT}/test/test_sandbox.c"),
        workshop.plain("sockets", f"{OWN}/sockets.c"),
        workshop.checkout / "apps/ufirewall/ufw.rules",
    )
    judge(program, run(program, workshop.compile(program, Linked.STATIC), *beside))


@pytest.mark.slow(bochs=120)
@pytest.mark.parametrize("program", WEDGES, ids=[f"{p.name}{p.args[:1]}" for p in WEDGES])
def test_wedge(program: Existing, workshop: Workshop, run: Run) -> None:
    """Clones of the page tables, protected by hand, one in ring 3 for each sthread."""
    judge(program, run(program, workshop.compile_with(program, "open.c")))


@pytest.mark.slow(60)
@pytest.mark.only_engines("kvm", "tcg", reason="a guest of 11 CPUs does not boot in 7 minutes")
@pytest.mark.guest_variant(cpus=11)
def test_interrupts(workshop: Workshop, run: Run) -> None:
    """One CPU interrupts ten others, whose threads end in the handler."""
    judge(IPI, run(IPI, workshop.compile(IPI, Linked.STATIC)))


@pytest.mark.only_engines("kvm", reason="a million interrupts take an hour")
@pytest.mark.guest_variant(cpus=21)
def test_interrupt_latency(workshop: Workshop, run: Run) -> None:
    """A million interrupts from CPU 10 to CPU 20."""
    judge(IPI_BENCH, run(IPI_BENCH, workshop.compile(IPI_BENCH, Linked.STATIC)))
