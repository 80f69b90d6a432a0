# SPDX-License-Identifier: MIT
"""dune-run: unmodified programs do the same in Dune mode as natively.

Most tests run one piece of shell text twice, with ``$RUN`` set to env, which
does nothing but execute, and to dune-run, and compare status, output and errors.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import replace

import pytest
from guest_shell import Outcome, Shell

from dunelab.dune import guest as dune_module
from dunelab.machine.machine import Machine

pytestmark = pytest.mark.guest_group("dune_run")

LINKED = ("start", "start_static", "start_static_pie", "start_nopie")
ENV = "/usr/bin/env"
DUNE_RUN = "/usr/bin/dune-run"
# ELF_ET_DYN_BASE of Linux on x86-64, and how far 28 random bits reach from there.
PIE_BASE = 0x555555554000
PIE_REACH = 1 << 40


def places(stderr: str) -> dict[str, int]:
    """What start says about itself on standard error."""
    return {name: int(value, 16) for name, value in re.findall(r"(\w+)=([0-9a-f]+)", stderr)}


# -- the same as natively --------------------------------------------------------------

SAME = {
    "status": "$RUN sh -c 'exit 7'",
    "signal": "$RUN sh -c 'kill -TERM $$'; echo $?; $RUN sh -c 'kill -SEGV $$'",
    "builtins": """$RUN sh -c '
        i=0; while [ $i -lt 300 ]; do i=$((i + 1)); s=$s$i; done
        echo ${#s} "$0" "$@"; set -- $s; shift; read -r line </etc/passwd; echo "$line"
        trap "echo bye; exit 3" EXIT; echo oops >&2; cd /nosuch' name one 'two words' ''""",
    "redirections": """$RUN sh -c 'echo a >x; echo b >>x; read -r v <x; echo $v; echo c 2>&1 >&2
        exec >y; echo d'; cat x y""",
    "awk": "seq 3000 | $RUN awk '{ s += $1 * $1; a[$1 % 7] += log($1) } "
    'END { printf "%d %.12g %s\\n", s, a[3], ENVIRON["RUN"] == "" ? "" : "" }\'',
    "sort": "seq 1000 | $RUN sha1sum | $RUN sed 's/\\(.\\)/\\1 /g' | $RUN tr ' ' '\\n' | "
    "$RUN sort -r | $RUN uniq -c",
    "sums": "$RUN dd if=/bin/busybox bs=3333 count=50 2>/dev/null | $RUN sha256sum; "
    "$RUN md5sum /bin/busybox; $RUN sha512sum /etc/passwd",
    "dd": "$RUN dd if=/dev/zero of=x bs=64k count=16 seek=1 2>/dev/null; $RUN stat -c '%s %a' x; "
    "$RUN dd if=x bs=1 skip=70000 count=20 2>/dev/null | $RUN od -c",
    "gzip": "head -c 200000 /bin/busybox >x; $RUN gzip -c x >x.gz && "
    "$RUN gzip -dc x.gz | $RUN cmp - x; "
    "$RUN tar cf x.tar -C / etc && $RUN tar tf x.tar | $RUN sort",
    "files": "mkdir -p a/b; $RUN touch a/b/c; $RUN find a; $RUN mv a/b/c d; $RUN ls -R; "
    "$RUN rm d x",
    "proc": "$RUN cat /proc/self/comm; $RUN od -c /proc/self/cmdline; "
    "$RUN readlink /proc/self/exe; "
    "$RUN ps -o comm,args >ps; grep '^ps ' ps",
    "chroot": "mkdir -p r/bin; cp /bin/busybox r/bin/; "
    "$RUN busybox chroot r /bin/busybox sh -c 'busybox ls /; (exit 3); echo $?'",
    "environment": "env -i A=b C= PATH=/usr/bin $RUN env; env -i $RUN /usr/bin/env; "
    "env -u PATH $RUN ls /etc",
    "long-arguments": "$RUN echo $(seq 15000) | sha256sum; "
    "X=$(seq 15000) $RUN env | grep -v RUN= | sha256sum; "
    "$RUN sh -c 'echo ${#1} ${#X}' x \"$(seq 9000)\"",
    "dynamic": "$RUN dropbearkey -y -f /etc/dropbear/host_key; $RUN dropbear -V; "
    "$RUN /lib64/ld-linux-x86-64.so.2 /usr/bin/dropbearkey; "
    "LD_PRELOAD=/lib/x86_64-linux-gnu/libz.so.1 $RUN dropbearkey; "
    "LD_SHOW_AUXV=1 $RUN dropbear -V | grep -e EXECFN -e HWCAP -e PLATFORM",
}


@pytest.mark.parametrize("name", SAME)
def test_same_as_native(shell: Shell, name: str) -> None:
    """With each program's word that it starts in ring 0."""
    native = shell(SAME[name], ENV)
    assert "not found" not in native.stderr
    dune = shell(SAME[name], f"{DUNE_RUN} --verify")
    stderr, proofs = re.subn(r"^dune-run: CPL 0, a vCPU .*\n", "", dune.stderr, flags=re.MULTILINE)
    assert proofs > 0
    assert replace(dune, stderr=stderr) == native


DESCRIPTORS = {
    "closed": "$RUN cat <&-; echo $?; $RUN cat /etc/passwd >&-; echo $?",
    "taken": """$RUN sh -c 'exec 3>x 4>y 5>z; echo a >&3; echo b >&4; echo c >&5; exec 3>&- 4>&-
        echo d >&5; echo e'; cat x y z""",
    # One digit: libdune's own descriptors are numbered high, and can be seen.
    "seen": "$RUN sh -c 'exec 9</etc/passwd; echo /proc/$$/fd/[0-9]'",
}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_descriptors(shell: Shell, name: str) -> None:
    """A program has the descriptors that it would have natively, and may use every number."""
    native, dune = (shell(DESCRIPTORS[name], run) for run in (ENV, DUNE_RUN))
    digits = re.compile(r"/proc/\d+")
    assert digits.sub("", dune.stdout) == digits.sub("", native.stdout)
    assert (dune.status, dune.stderr) == (native.status, native.stderr)


@pytest.mark.parametrize("name", LINKED)
def test_start(shell: Shell, plain: Callable[[str], str], name: str) -> None:
    """Arguments, vectors, registers, memory, TLS: the program itself checks them."""
    text = f"env -i A=b EMPTY= $RUN {plain(name)} one 'two words' '' \"$(seq 2000)\""
    native, dune = shell(text, ENV), shell(text, DUNE_RUN)
    assert native.status == 0, native.stdout
    assert dune.status == 0, dune.stdout
    assert dune.stdout == native.stdout
    assert (places(native.stderr)["cpl"], places(dune.stderr)["cpl"]) == (3, 0)


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_ways_to_execute(shell: Shell, plain: Callable[[str], str], user: str) -> None:
    """By path, by descriptor, of memory, of scripts, of what is busy: from Dune mode too."""
    text = f"cp {plain('execs')} . && chmod 777 . && cd . && su -s /bin/sh {user} -c '$RUN ./execs'"
    native, dune = (shell(f"export RUN; {text}", run) for run in (ENV, DUNE_RUN))
    assert native.status == 0
    assert dune.stdout == native.stdout
    assert dune.stderr == native.stderr.replace("cpl=3", "cpl=0")
    assert dune.stderr.count("cpl=0") == native.stdout.count("A=b")


def test_code_on_the_stack(shell: Shell, plain: Callable[[str], str]) -> None:
    """PT_GNU_STACK with the execute flag is honoured; without it the same code dies."""
    for run in (ENV, DUNE_RUN):
        assert shell(f"$RUN {plain('code_execstack')}", run) == Outcome(0, "42\n", "")
        done = shell(f"$RUN {plain('code')}", run)
        assert (done.status, done.stdout) == (128 + signal.SIGSEGV, "")


@pytest.mark.thorough
@pytest.mark.slow(bochs=30)
@pytest.mark.guest_variant(append=("ia32_emulation=off",))
@pytest.mark.parametrize("handled", [True, False])
def test_no_32_bit_calls(shell: Shell, plain: Callable[[str], str], handled: bool) -> None:
    """A kernel without 32-bit calls (it may be told so from 6.7 on): the same fault."""
    text = f"$RUN {plain('int80')}{'' if handled else ' x'}"
    native, dune = shell(text, ENV), shell(text, DUNE_RUN)
    assert (dune.status, dune.stdout) == (native.status, native.stdout)
    assert (places(native.stderr)["cpl"], places(dune.stderr)["cpl"]) == (3, 0)


def test_layout(shell: Shell, plain: Callable[[str], str]) -> None:
    """A PIE is where the kernel would have put it, heap and stack as well."""
    program = plain("start")
    moving = [places(shell(f"$RUN {program}", DUNE_RUN).stderr) for _ in range(2)]
    for found in moving:
        assert 0 <= found["main"] - PIE_BASE < PIE_REACH
        assert 0 <= found["heap"] - found["main"] < 2 << 30
    for what in ("main", "heap", "stack"):
        assert moving[0][what] != moving[1][what]

    still = (
        "f=/proc/sys/kernel/randomize_va_space; old=$(cat $f); echo 0 >$f; "
        f"$RUN {program}; echo $old >$f"
    )
    fixed = [places(shell(still, DUNE_RUN).stderr) for _ in range(2)]
    native = places(shell(still, ENV).stderr)
    assert fixed[0] == fixed[1]
    assert fixed[0]["heap"] - fixed[0]["main"] == native["heap"] - native["main"]
    # dune-run's own heap may be in the way of the exact place.
    assert 0 <= fixed[0]["main"] - native["main"] < 1 << 20


# -- scripts ---------------------------------------------------------------------------

SCRIPTS = r"""
make() { printf "$2" >"$1"; chmod 755 "$1"; }
try() { "$@"; echo "$2: $?"; }
long=$(printf 'x%.0s' $(seq 300))
make plain '#!/bin/echo\n'
make argument '#!/bin/echo one two\n'
make blanks '#! \t/bin/echo \t one \t two\t \n'
make unended '#!/bin/echo one'
make nothing '#!\necho by the shell: "$0" "$@"\n'
make spaces '#!    \necho by the shell\n'
make text 'echo by the shell: "$0" "$@"; exit 5\n'
make cut "#!/bin/echo $long\n"
make too-long "#!/$long\nexit 6\n"
make shell '#!/bin/sh -e\necho $0 "$@"; cat /proc/$$/comm; readlink /proc/$$/exe\nfalse\necho no\n'
make awk '#!/usr/bin/awk -f\nBEGIN { print ARGC, ARGV[1], 6 * 7; exit 9 }\n'
for s in plain argument blanks unended nothing spaces text cut too-long shell awk; do
    try $RUN ./$s a 'b  c' ''
done
make 1 '#!./plain from-1\n'
for i in 2 3 4 5 6; do make $i "#!./$((i - 1)) from-$i\n"; done
for i in 1 2 3 4; do try $RUN ./$i a; done
try $RUN $PWD/shell 'x y'
PATH=/nosuch::$PATH try $RUN shell z
PATH=$PWD try $RUN plain z
"""


def test_scripts(shell: Shell) -> None:
    """#! lines as the kernel reads them, files without one as execvp() does."""
    wanted, found = shell(SCRIPTS, ENV), shell(SCRIPTS, DUNE_RUN)
    assert found == wanted
    assert "by the shell" in found.stdout


# -- what cannot be started --------------------------------------------------------------

FAILURES = r"""
make() { printf "$2" >"$1"; chmod 755 "$1"; }
try() { $RUN "$@" 2>&1 | sed 's/.*: //'; $RUN "$@" >/dev/null 2>&1; echo "$1: $?"; }
make script '#!/nosuch\n'; make not-executable ''; chmod 644 not-executable
make folder-script '#!/tmp\n'; make loop '#!./loop\n'; ln -s link link
make 0 '#!/bin/echo\n'
for i in 1 2 3 4 5 6; do make $i "#!./$((i - 1))\n"; done
mkfifo pipe; chmod 755 pipe
sed 's,/lib64/ld-linux,/lib64/no-linux,' $START >no-interp; chmod 755 no-interp
sed 's,/lib64/ld-linux-x86-64.so.2,/etc///////////////passwd\x00,' $START >text-interp
chmod 755 text-interp
for p in nosuch ./nosuch '' /tmp /etc/passwd/x ./not-executable ./script ./folder-script ./loop \
    ./link ./5 ./6 ./pipe ./no-interp $(printf 'x%.0s' $(seq 300)); do try "$p"; done
PATH=$PWD:/usr/bin:/bin try not-executable
PATH=/nosuch try /bin/true
"""


def test_failures(shell: Shell, plain: Callable[[str], str]) -> None:
    """Statuses and messages are those of env(1), which leaves the work to the kernel."""
    text = f"START={plain('start')}\n{FAILURES}"
    wanted, found = shell(text, ENV), shell(text, DUNE_RUN)
    assert found == wanted
    assert "126" in found.stdout
    assert "127" in found.stdout


REFUSED = {
    "not-a-program": (
        "printf '\\177ELFgarbage' >x; chmod 755 x; dune-run ./x",
        "Exec format error",
    ),
    "32-bit": (
        "dd if=/bin/busybox of=x bs=64 count=1 2>/dev/null; chmod 755 x; "
        "printf '\\3\\0' | dd of=x bs=1 seek=18 conv=notrunc 2>/dev/null; dune-run ./x",
        "32-bit program",
    ),
    "no-headers": (
        "dd if=/bin/busybox of=x bs=64 count=1 2>/dev/null; chmod 755 x; dune-run ./x",
        "headers are damaged",
    ),
    "set-user-id": (
        "cp /bin/busybox x; chown nobody x; chmod 4755 x; dune-run --as true ./x",
        "start it natively",
    ),
    "unreadable": (
        "chmod 755 .; cp /bin/busybox x; chmod 711 x; "
        "su -s /bin/sh nobody -c 'dune-run --as true ./x'",
        "not read",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(shell: Shell, name: str) -> None:
    text, reason = REFUSED[name]
    done = shell(text)
    assert done.status == 126
    assert reason in done.stderr
    assert done.stderr.startswith("dune-run: ")


# -- dune-run itself ---------------------------------------------------------------------


def test_options(shell: Shell, plain: Callable[[str], str]) -> None:
    assert shell("dune-run --as echo busybox hi") == Outcome(0, "hi\n", "")
    assert shell("dune-run --as=echo -- busybox hi") == Outcome(0, "hi\n", "")
    assert shell("dune-run --no-follow echo --verify") == Outcome(0, "--verify\n", "")
    named = shell(f"dune-run --as 'a name' {plain('start')}")
    assert "# argv[0]=a name\n" in named.stdout
    assert "# comm=start\n" in named.stdout
    assert named.status == 0
    assert shell("dune-run --help").stdout.startswith("Usage: dune-run ")
    assert re.fullmatch(r"dune-run \d+(\.\d+)+\n", shell("dune-run --version").stdout)
    for wrong in ("--nosuch echo", "--as", "", "--verify", "--"):
        done = shell(f"dune-run {wrong}")
        assert (done.status, done.stdout) == (125, "")
        assert "next: dune-run --help" in done.stderr


def test_a_path_is_not_searched_for(shell: Shell) -> None:
    assert shell("dune-run --path echo").status == 127
    assert shell("cp /bin/busybox echo; dune-run --path echo hi") == Outcome(0, "hi\n", "")
    done = shell("echo exit 3 >x; chmod 755 x; dune-run ./x; echo $?; dune-run --path ./x")
    assert (done.status, done.stdout) == (126, "3\n")


def test_proof_of_guest_mode(shell: Shell) -> None:
    """By dune-run's own word, and by the module's list of vCPUs."""
    done = shell("dune-run --verify echo hi")
    found = re.fullmatch(
        r"dune-run: CPL 0, a vCPU with (\d+) entries, exits: (\d+) hypercalls, .*\n", done.stderr
    )
    assert found
    assert (int(found[1]) > 0, int(found[2]) > 0, done.stdout) == (True, True, "hi\n")

    table = "/sys/kernel/debug/dune/vcpus"
    done = shell(f"dune-run sh -c 'echo $$; while read -r line; do echo $line; done <{table}'")
    pid, *lines = done.stdout.splitlines()
    assert [line for line in lines if re.match(rf"tid {pid} runs [1-9]\d* .*hypercall [1-9]", line)]
    assert shell(f"cat {table}").stdout == ""


def test_dune_run_in_dune_run(shell: Shell) -> None:
    done = shell("dune-run dune-run --verify dune-run cat /proc/self/comm")
    assert (done.status, done.stdout) == (0, "cat\n")
    assert done.stderr.startswith("dune-run: CPL 0, ")


AS_NOBODY = "chmod 711 /tmp; mkdir w; chmod 777 . w; cd w; export RUN; su -s /bin/sh nobody -c "


@pytest.mark.parametrize("name", LINKED)
def test_without_rights(shell: Shell, plain: Callable[[str], str], name: str) -> None:
    """Who may not change /proc/self/exe has the kernel load the program: all is the same."""
    text = f"{AS_NOBODY}'env -i $RUN {plain(name)} a b'"
    native, dune = shell(text, ENV), shell(text, DUNE_RUN)
    assert (native.status, dune.status) == (0, 0), dune.stdout
    assert dune.stdout == native.stdout
    assert places(dune.stderr)["cpl"] == 0


@pytest.mark.thorough
def test_without_rights_again_and_again(shell: Shell) -> None:
    """Helper and program run side by side, and the one is never late."""
    text = "i=0; while [ $i -lt 40 ]; do dune-run --verify true; i=$((i + 1)); done"
    done = shell(f"{AS_NOBODY}'{text}'")
    assert (done.status, done.stdout) == (0, "")
    assert len(re.findall(r"^dune-run: CPL 0, a vCPU .* interrupts$", done.stderr, re.M)) == 40


WITHOUT_RIGHTS = {
    "exe": "$RUN readlink /proc/self/exe; $RUN sh -c 'readlink /proc/$$/exe; $RUN id -u; "
    "exec readlink /proc/self/exe'",
    "children": "$RUN sh -c 'ps -o ppid,comm >ps; grep -c \"^ *$$ \" ps; (exit 3); echo $?'",
    "wait": '$RUN sh -c \'wait; sleep 0.1 & wait; echo $?; trap "echo child" CHLD; true; '
    "od -c /dev/null'",
    "errors": "$RUN nosuch; $RUN ./nosuch; $RUN sh -c 'exit 9'; echo $?; "
    "$RUN sh -c 'kill -SEGV $$'; echo $?",
    "script": "printf '#!/bin/sh -e\\necho $0 $*; false; echo no\\n' >s; chmod 755 s; "
    "$RUN ./s a 'b c'; echo $?; printf 'echo plain $0 $*\\n' >p; chmod 755 p; $RUN sh -c './p x'",
    "arguments": "$RUN cat /proc/self/cmdline | od -c; $RUN od -c /proc/self/environ | grep -c RUN",
    "signals": "$RUN grep -e SigP -e ShdP -e SigB -e SigI /proc/self/status",
    "descriptors": "$RUN sh -c 'echo /proc/$$/fd/[0-9]' | sed 's/[0-9]*.fd/fd/g'",
    "session": '$RUN sh -c \'test $(cut -d" " -f5,6 /proc/$$/stat | tr " " x) = '
    '$(cut -d" " -f5,6 /proc/$PPID/stat | tr " " x) && echo same\'',
}


@pytest.mark.parametrize("name", WITHOUT_RIGHTS)
def test_an_ordinary_user(shell: Shell, name: str) -> None:
    text = f"{AS_NOBODY}\"$(cat <<'END'\n{WITHOUT_RIGHTS[name]}\nEND\n)\""
    native, dune = shell(text, ENV), shell(text, DUNE_RUN)
    assert native.stdout
    assert dune.stdout == native.stdout
    assert dune.status == native.status


SCOPE = "/proc/sys/kernel/yama/ptrace_scope"


@pytest.mark.parametrize("scope", [0, 1, 2])
def test_who_may_trace(shell: Shell, scope: int) -> None:
    """Where the system lets no helper trace, dune-run loads the program, and says so."""
    done = shell(
        f"old=$(cat {SCOPE}); echo {scope} >{SCOPE}; "
        f"({AS_NOBODY}'dune-run --verify readlink /proc/self/exe'); s=$?; "
        f"echo $old >{SCOPE}; exit $s"
    )
    exe = "/usr/bin/dune-run" if scope == 2 else "/usr/bin/busybox"
    assert (done.status, done.stdout) == (0, f"{exe}\n"), done.stderr
    refusal = "/proc/self/exe is dune-run's: Operation not permitted"
    assert (refusal in done.stderr) == (scope == 2)


@pytest.mark.usefixtures("reloaded")
def test_without_the_module(guest: Machine, shell: Shell) -> None:
    closed = shell("chmod 600 /dev/dune; su -s /bin/sh nobody -c 'dune-run echo hi'")
    dune_module.unload_module(guest)
    absent = shell("dune-run echo hi")
    for done, cause in ((closed, "may not be opened"), (absent, "modprobe dune")):
        assert (done.status, done.stdout) == (125, "")
        assert cause in done.stderr
        assert "next: " in done.stderr


# -- programs that print what they find ------------------------------------------------

PROBES = ("probe_signals", "probe_children", "probe_trace", "probe_self")


@pytest.mark.parametrize("name", PROBES)
def test_probe(shell: Shell, plain: Callable[[str], str], name: str) -> None:
    """What a program finds out and tells: the same lines as natively."""
    native = shell(f"$RUN {plain(name)}", ENV)
    dune = shell(f"$RUN {plain(name)}", f"{DUNE_RUN} --verify")
    assert native.stdout
    assert not native.stderr
    assert dune.stderr.startswith("dune-run: CPL 0, a vCPU")
    assert dune.stdout.splitlines() == native.stdout.splitlines()
    assert dune.status == native.status


STEPS = [
    "single steps: 2 instructions: 5, odd 0",
    "single steps: a system call: 5, odd 0, right 1",
    "single steps: a special one: 5, odd 0, result -22",
    "single steps: status 0",
]


def test_single_steps(shell: Shell, plain: Callable[[str], str]) -> None:
    """As on a CPU.  Not compared: Bochs steps into SYSCALL, of which a native kernel complains."""
    dune = shell(f"$RUN {plain('probe_steps')}", f"{DUNE_RUN} --verify")
    assert dune.stderr.startswith("dune-run: CPL 0, a vCPU")
    assert dune.stdout.splitlines() == STEPS
