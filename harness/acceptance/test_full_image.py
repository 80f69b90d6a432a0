# SPDX-License-Identifier: MIT
"""The full guest: a Debian root in which real programs do their work, natively.

One script in full_image/ per kind of program.  Each makes a program work for
an answer; "# says:" in its head is what it prints.  None needs dune.ko or a
network beyond the guest's own loopback.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.spec import ImageKind

pytestmark = [
    pytest.mark.guest_group("full"),
    pytest.mark.guest_variant(image="full"),
    pytest.mark.thorough,
]

SCRIPTS = sorted((Path(__file__).resolve().parent / "full_image").glob("*.sh"))
SECONDS = 240.0

# Every script begins so: a folder of its own, and a way to wait for a server.
HEAD = """\
set -eu -o pipefail
cd "$(mktemp -d)"
until_open() { until nc -z 127.0.0.1 "$1"; do sleep 0.1; done; }
"""


def is_slow(script: Path) -> bool:
    """Whether it takes about as long as the others together."""
    return "# slow\n" in script.read_text(encoding="utf-8")


def do(guest: Machine, script: Path) -> None:
    """Run a script by the guest's shell and compare what it prints."""
    text = script.read_text(encoding="utf-8")
    wanted = re.findall(r"^# says: (.*)$", text, re.MULTILINE)
    assert wanted, f"{script} does not say what it prints"
    done = guest.run(HEAD + text, Deadline.after(SECONDS, f"end of {script.name}"))
    assert done.exit_status == 0, f"{done.stdout}\n{done.stderr}"
    assert done.stdout.splitlines() == wanted, done.stderr


@pytest.mark.slow(bochs=60)
@pytest.mark.parametrize(
    "script",
    [
        pytest.param(script, id=script.stem, marks=[pytest.mark.slow] if is_slow(script) else [])
        for script in SCRIPTS
    ],
)
def test_program(guest: Machine, script: Path) -> None:
    do(guest, script)


@pytest.mark.slow(bochs=60)
def test_the_root_is_that_of_a_debian_machine(guest: Machine) -> None:
    assert guest.spec.image.kind is ImageKind.FULL
    assert guest.succeed("findmnt -n -o FSTYPE,OPTIONS /").startswith("overlay rw")
    guest.succeed("echo x >/usr/bin/new && rm /usr/bin/new /usr/bin/c99-gcc")
    mounts = {
        folder: kind
        for kind, folder in (
            line.split() for line in guest.succeed("findmnt -n -l -o FSTYPE,TARGET").splitlines()
        )
    }
    # Nothing of the initramfs shows.
    assert mounts == {
        "/": "overlay",
        "/dev": "devtmpfs",
        "/dev/hugepages": "hugetlbfs",
        "/dev/mqueue": "mqueue",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",  # noqa: S108 - a path inside the guest
        "/proc": "proc",
        "/run": "tmpfs",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "cgroup2",
        "/sys/kernel/debug": "debugfs",
        "/tmp": "tmpfs",  # noqa: S108 - a path inside the guest
    }
    assert guest.succeed("hostname; ip -o link show lo | grep -o 'LOOPBACK,UP'") == (
        "dune\nLOOPBACK,UP\n"
    )
