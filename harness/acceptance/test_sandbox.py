# SPDX-License-Identifier: MIT
"""dune-sandbox: programs do the same under it, and a hostile one gets nowhere.

What is compared runs twice, with ``$RUN`` set to env and to dune-sandbox, and gives the
same status, output and errors.  The catalogue of escapes and the fuzzer are programs of
tests/plain, which fail where there is no monitor.
"""

from __future__ import annotations

import pytest
from guest_shell import Plain, Shell

pytestmark = pytest.mark.guest_group("sandbox")

NATIVE = "/usr/bin/env"
SANDBOX = "/usr/bin/dune-sandbox --allow-all"
LINKED = ("start", "start_static", "start_static_pie", "start_nopie")
FUZZ_ROUNDS = 60
MANY_RACES = 3000
# On Bochs the other guest takes longer to boot than its tests.
ONE_CPU = [pytest.mark.guest_variant(cpus=1), pytest.mark.thorough, pytest.mark.slow(bochs=20)]
CPUS = (2, pytest.param(1, marks=ONE_CPU))

# The programs, and what is said about their attempts.
ATTACKS = {
    "sandbox_escape": (
        "access to the monitor's memory",
        "mmap of the monitor's memory",
        "opening /proc/",
        "ptrace was refused",
        "process_vm_writev was refused",
        "the address space is used up",
    ),
    "sandbox_cpu": (
        "VMCALL in ring 3",
        "VMMCALL in ring 3",
        "INT in ring 3",
        "SYSENTER in ring 3",
        "port I/O in ring 3",
        "RDMSR or WRMSR in ring 3",
        "HLT in ring 3",
        "a call of the vsyscall page",
        "a bad signal frame",
    ),
    "sandbox_race": (
        "opening /proc/",
        "a thread of a process that shares memory",
    ),
}


SAME = {
    "status": "$RUN sh -c 'exit 7'",
    "signal": "$RUN sh -c 'kill -TERM $$'; echo $?; $RUN sh -c 'kill -SEGV $$'",
    "trap": "$RUN sh -c 'trap \"echo got it\" USR1; kill -USR1 $$; echo after'",
    "shell": "$RUN sh -c 'i=0; while [ $i -lt 200 ]; do i=$((i + 1)); s=$s$i; done; echo ${#s}; "
    'echo a >x; echo b >>x; cat x | tr a-z A-Z; (exit 3); echo $? "$@"\' name one two',
    "awk": "seq 3000 | $RUN awk '{ s += $1 * $1; a[$1 % 7] += log($1) } "
    'END { printf "%d %.12g\\n", s, a[3] }\'',
    "sums": "$RUN dd if=/bin/busybox bs=3333 count=50 2>/dev/null | $RUN sha256sum; "
    "$RUN md5sum /bin/busybox",
    "files": "mkdir -p a/b; $RUN touch a/b/c; $RUN find a; $RUN mv a/b/c d; $RUN ls -R; "
    "$RUN ln -s d e; $RUN cat e; $RUN rm d e x",
    "gzip": "head -c 200000 /bin/busybox >x; $RUN gzip -c x >x.gz && "
    "$RUN gzip -dc x.gz | $RUN cmp - x; $RUN tar cf x.tar -C / etc && $RUN tar tf x.tar",
    "proc": "$RUN cat /proc/self/comm; $RUN od -c /proc/self/cmdline; $RUN readlink /proc/self/exe",
    "dynamic": "$RUN dropbearkey -y -f /etc/dropbear/host_key; $RUN dropbear -V",
    "environment": "env -i A=b C= PATH=/usr/bin $RUN env; $RUN echo $(seq 9000) | sha256sum",
}


@pytest.mark.parametrize("name", SAME)
def test_same_as_native(shell: Shell, name: str) -> None:
    native = shell(SAME[name], NATIVE)
    assert shell(SAME[name], SANDBOX) == native


@pytest.mark.parametrize("name", LINKED)
def test_start(shell: Shell, plain: Plain, name: str) -> None:
    """However a program is linked it starts, in ring 3, and sees what it sees natively.

    But for IOPL, by which libdune knows ring 3: PUSHF shows 1.  A dynamic program's first
    instruction is the dynamic linker's, which does not look.
    """
    native = shell(f"exec env -i {plain(name)}")
    done = shell(f"exec env -i {SANDBOX} {plain(name)}")
    assert native.status == 0, native.stdout
    assert "cpl=3" in done.stderr
    expected = native.stdout
    if "static" in name:
        expected = expected.replace("ok 3 - the flags are clear", "not ok 3 - the flags are clear")
    assert done.stdout == expected


@pytest.mark.parametrize("cpus", CPUS)
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(name, marks=pytest.mark.thorough if name == "sandbox_race" else ())
        for name in ATTACKS
    ],
)
def test_attack(shell: Shell, plain: Plain, program: str, cpus: int) -> None:
    """Each attempt of the catalogue fails, and those that are no accident are reported."""
    path = plain(program)
    assert shell(path).status == 1, "the catalogue passes without a sandbox"
    attack(shell, path, ATTACKS[program])


@pytest.mark.slow(tcg=20, kvm=10, bochs=60)
@pytest.mark.parametrize("cpus", CPUS)
def test_many_races(shell: Shell, plain: Plain, cpus: int) -> None:
    attack(shell, f"{plain('sandbox_race')} {MANY_RACES}", ATTACKS["sandbox_race"])


def attack(shell: Shell, command: str, told: tuple[str, ...]) -> None:
    done = shell(f"{SANDBOX} {command}", seconds=600)
    assert done.status == 0, [x for x in done.stdout.splitlines() if not x.startswith("ok")]
    for what in told:
        assert f"dune-sandbox: {what}" in done.stderr
    assert "the monitor failed" not in done.stderr


@pytest.mark.parametrize("cpus", CPUS)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_fuzz(shell: Shell, plain: Plain, seed: int, cpus: int) -> None:
    """Random calls and instructions: the monitor never finds itself broken."""
    fuzz(shell, plain, seed, FUZZ_ROUNDS)


@pytest.mark.slow(tcg=60, bochs=120)
@pytest.mark.parametrize("seed", range(3, 7))
def test_fuzz_long(shell: Shell, plain: Plain, seed: int) -> None:
    fuzz(shell, plain, seed, 10 * FUZZ_ROUNDS)


def fuzz(shell: Shell, plain: Plain, seed: int, rounds: int) -> None:
    done = shell(f"{SANDBOX} {plain('sandbox_fuzz')} {seed} {rounds}", seconds=600)
    assert done.status == 0, done.stdout + done.stderr[-2000:]
    assert "exception" not in done.stderr


@pytest.mark.parametrize("cpus", CPUS)
def test_library(shell: Shell, plain: Plain, cpus: int) -> None:
    """A program with a callback of its own, and one under it that tries what it can."""
    embed, asked = plain("sandbox_embed"), plain("sandbox_asked")
    prepare = "chmod 755 .; mkdir asked; echo t >asked/a.txt; echo k >asked/a.key; "
    assert shell(f"{prepare} {asked} /tmp/shell/log").status == 1, "it passes without a sandbox"
    done = shell(f"{prepare} {embed} .txt log {asked} /tmp/shell/log; status=$?; cat log >&2; "
                 "exit $status", seconds=300)  # fmt: skip
    assert done.status == 0, [x for x in done.stdout.splitlines() if not x.startswith("ok")]
    assert "\nyes getppid 0 0.286\n" in done.stderr
    assert "\nno /tmp/shell/asked/a.key 1 0.429\n" in done.stderr


def test_library_after_exec(shell: Shell, plain: Plain) -> None:
    """What a sandboxed program executes is asked about by the same callback."""
    done = shell(
        "mkdir asked; echo t >asked/a.txt; echo k >asked/a.key; "
        f"{plain('sandbox_embed')} .txt log sh -c 'sh -c \"cat asked/a.txt; cat asked/a.key\"'; "
        "cat log"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "t", done.stderr
    assert "yes /tmp/shell/asked/a.txt 1 0.429" in lines
    assert "no /tmp/shell/asked/a.key 1 0.429" in lines


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("dune-sandbox", 125, "no program given"),
        ("dune-sandbox --ask maybe true", 125, "--ask is terminal, allow or deny"),
        ("dune-sandbox --nosuch", 125, "unknown option '--nosuch'"),
        ("dune-sandbox /nosuch", 127, "/nosuch: No such file or directory"),
        ("dune-sandbox /etc/passwd", 126, "Permission denied"),
        ("dune-sandbox --policy nosuch true", 125, "nosuch: No such file or directory"),
        ("dune-sandbox dune-sandbox true", 126, "its fixed address is taken"),
    ],
)
def test_errors(shell: Shell, text: str, status: int, message: str) -> None:
    done = shell(text)
    assert done.status == status, done.stderr
    assert message in done.stderr
