# SPDX-License-Identifier: MIT
"""Dune mode on the full guest, beyond "the same as natively".

An ordinary user's programs, those that find themselves by /proc/self/exe among them,
and debuggers that look at core files.
"""

from __future__ import annotations

import re

import pytest
from guest_shell import natively

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.spec import Cell, CommandResult

pytestmark = [
    pytest.mark.guest_variant(image="full"),
    pytest.mark.guest_group("real"),
    pytest.mark.thorough,
    pytest.mark.slow(bochs=120),
]
SECONDS = 240.0

ORIGIN = r"""
mkdir -p bin lib
echo 'int answer(void) { return 42; }' >lib.c
echo '#include <stdio.h>
int answer(void);
int main(void) { printf("%d\n", answer()); return 0; }' >main.c
gcc -shared -fPIC -o lib/libanswer.so lib.c
gcc -o bin/main main.c -Llib -lanswer -Wl,-rpath,'$ORIGIN/../lib'
$RUN bin/main
"""

USER = {
    "bash": "$RUN bash -c 'id -un; x=$(seq 5 | tac | xargs); echo \"$x\"; exit 3'; echo $?",
    "python": "$RUN python3 -c 'import os, subprocess, sys, threading;"
    'print(sys.executable, os.readlink("/proc/self/exe"));'
    "t = threading.Thread(target=print, args=(6 * 7,)); t.start(); t.join();"
    'print(subprocess.check_output(["readlink", "/proc/self/exe"], text=True))\'',
    "java": "$RUN java -Xmx128m -cp /opt/dunelab Primes 3000",
    "origin": ORIGIN,
    "descriptors": "ulimit -S -n 4; $RUN sh -c 'ulimit -n; cat /etc/debian_version; ls /proc/self'",
}


def user(guest: Machine, text: str, run: str) -> CommandResult:
    """Run shell text as the ordinary user of the image, in an empty folder."""
    script = 'cd "$(mktemp -d)"; RUN=$1; ' + text
    return guest.run(
        f"cat >/tmp/text <<'END'\n{script}\nEND\nchmod 644 /tmp/text; "
        f"su - user -c 'bash /tmp/text {run}'",
        Deadline.after(SECONDS, f"end of {text!r}"),
    )


@pytest.mark.parametrize("name", USER)
def test_an_ordinary_user(guest: Machine, cell: Cell, name: str) -> None:
    native = natively(cell.engine, name, lambda: user(guest, USER[name], "env"))
    dune = user(guest, USER[name], "dune-run\\ --verify")
    assert native.stdout
    assert (dune.exit_status, dune.stdout) == (native.exit_status, native.stdout), dune.stderr
    assert re.search(r"^dune-run: CPL 0, a vCPU .* interrupts$", dune.stderr, re.MULTILINE)


CRASHES = {
    "fault": "*(volatile int *)8 = depth;",
    "abort": "abort();",
    "divide": "depth = 7 / (depth - 1);",
    "quit": 'printf("spins\\n"); fflush(stdout); for (;;) depth += 2;',
}

PROGRAM = r"""
cat >prog.c <<'END'
#include <stdio.h>
#include <stdlib.h>
volatile int depth = 1;
static double kept = 2.5;
void __attribute__((noinline)) last(int n) {{ {crash} kept += n; }}
void __attribute__((noinline)) middle(int n) {{ last(n + 1); kept *= n; }}
int main(void) {{ middle(40); return kept > 0; }}
END
gcc -O1 -g -fno-omit-frame-pointer -o prog prog.c
ulimit -c unlimited
echo "$PWD/core" >/proc/sys/kernel/core_pattern
$RUN ./prog >out & pid=$!
if [ {spins} = True ]; then until grep -q spins out; do sleep 0.1; done; kill -XCPU $pid; fi
wait $pid; echo "status $?"
gdb -q -batch -ex bt -ex 'frame function last' -ex 'print n' -ex 'print depth % 2' prog core \
    2>/dev/null | sed -n 's/0x[0-9a-f]* in //; /^#\|^.[0-9] =\|terminated/p'
"""


@pytest.mark.parametrize("name", CRASHES)
def test_gdb_on_a_core_file(guest: Machine, name: str) -> None:
    """Function, arguments and lines are those of a native process's core file."""
    text = 'cd "$(mktemp -d)"\n' + PROGRAM.format(crash=CRASHES[name], spins=name == "quit")
    native, dune = (
        guest.run(text, Deadline.after(SECONDS, f"core file of {name}"), env={"RUN": run})
        for run in ("env", "dune-run")
    )
    for frame in ("last (n=", "middle (n=", "main ()"):
        assert frame in native.stdout, native.stdout + native.stderr
    assert dune.stdout == native.stdout, dune.stderr
