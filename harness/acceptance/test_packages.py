# SPDX-License-Identifier: MIT
"""The Debian packages, as a user has them: installed by dpkg in the full guest.

What dunelab itself puts into a guest (module, dune-run) is out of the way meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_module
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.spec import Cell

pytestmark = [
    pytest.mark.guest_variant(image="full", cpus=2),
    pytest.mark.guest_group("packages"),
]

FOLDER = "/root/packages"
# Compiling dune.ko in an emulated guest.
DKMS_SECONDS = 1500.0
USUAL_SECONDS = 240.0
OWN = f"{dune_module.MODULE_PATH} /usr/bin/dune-run /usr/bin/dune-strace"

PROGRAM = r"""
#include <stdio.h>
#include <libdune/dune.h>
int main(void)
{
	unsigned short cs;

	if (dune_init_and_enter())
		return 1;
	asm volatile("mov %%cs, %0" : "=r"(cs));
	printf("CPL %d\n", cs & 3);
	return 0;
}
"""

Do = Callable[..., str]


@pytest.fixture
def do(guest: Machine) -> Do:
    """Run shell text, demand success; both of its streams."""

    def run(text: str, seconds: float = USUAL_SECONDS) -> str:
        done = guest.run(f"exec 2>&1; {text}", Deadline.after(seconds, f"end of {text!r}"))
        assert done.exit_status == 0, f"{text}\n{done.stdout}"
        return done.stdout

    return run


@pytest.fixture
def bare(guest: Machine, do: Do) -> Iterator[Machine]:
    """A guest in which nothing of Dune is; as it was, afterwards."""
    dune_module.unload_module(guest)
    do(f"mkdir -p {FOLDER} /root/kept && for f in {OWN}; do mv $f /root/kept/; done")
    yield guest
    if guest.alive:
        do(
            "dpkg --purge dune-dkms dune-run libdune-dev libdune1; "
            f"for f in {OWN}; do mv /root/kept/${{f##*/}} $f; done; rm -r {FOLDER}"
        )
        dune_module.load_module(guest)


def install(guest: Machine, do: Do, debs: list[Path], seconds: float, how: str = "-i") -> str:
    """What dpkg said."""
    for deb in debs:
        guest.push(deb, f"{FOLDER}/{deb.name}")
    files = " ".join(f"'{FOLDER}/{deb.name}'" for deb in debs)
    return do(f"dpkg {how} {files} && rm {files}", seconds)


def traces(do: Do) -> list[str]:
    """What has Dune's name outside /proc, /sys and the bench's own folders."""
    return do(
        "find / -xdev -iname '*dune*' -not -path '/root/kept/*' -not -path '/etc/dunelab*' "
        "-not -path '/opt/dunelab*' | sort; dpkg -l | grep dune || true"
    ).splitlines()


@pytest.mark.slow(300)
def test_library_and_dune_run(bare: Machine, do: Do, lab: DuneLab) -> None:
    """dune.ko is the bench's; a program is built by what pkg-config says."""
    before = traces(do)
    packages = lab.store.debian_packages()
    debs = [packages.package(name) for name in ("libdune1", "libdune-dev", "dune-run")]
    install(bare, do, debs, USUAL_SECONDS)
    do("insmod /root/kept/dune.ko")
    bare.run(f"cat >{FOLDER}/prog.c <<'END'\n{PROGRAM}\nEND", Deadline.after(60, "a source file"))
    do(f"cd {FOLDER} && gcc -o prog prog.c $(pkg-config --cflags --libs libdune)")
    assert "libdune.so.1 => /lib/x86_64-linux-gnu/libdune.so.1" in do(f"ldd {FOLDER}/prog")
    assert do(f"{FOLDER}/prog") == "CPL 0\n"
    do(f"cd {FOLDER} && gcc -static -o static prog.c $(pkg-config --cflags --libs libdune)")
    assert do(f"{FOLDER}/static") == "CPL 0\n"
    assert "dune-run: CPL 0" in do("dune-run --verify cat /etc/debian_version")
    do("rmmod dune; dpkg --purge libdune-dev libdune1 dune-run; rm -r /root/packages/*")
    assert traces(do) == before


@pytest.mark.slow(600)
@pytest.mark.only_engines("tcg", "kvm", reason="a compiler takes too long on Bochs")
def test_dkms(bare: Machine, do: Do, lab: DuneLab, cell: Cell) -> None:
    """DKMS builds and installs for the running kernel; removal unloads and leaves nothing."""
    before = traces(do)
    # Not configured: they want the kernel's own package, which a guest does not have.
    install(bare, do, lab.store.header_packages(cell.kernel), USUAL_SECONDS, "--unpack")
    packages = lab.store.debian_packages()
    debs = [packages.package(name) for name in ("dune-dkms", "dune-run")]
    said = install(bare, do, debs, DKMS_SECONDS)
    release = do("uname -r").strip()
    assert f"{release}, x86_64: installed" in do("dkms status dune"), said
    assert f"/lib/modules/{release}/updates/dkms/dune.ko" in do("modinfo -n dune")

    do("modprobe dune")
    assert "dune-run: CPL 0" in do("dune-run --verify cat /etc/debian_version")

    # One that is in use stays, and the package goes all the same.
    do("(dune-run sleep 20 </dev/null >/dev/null 2>&1 & echo $! >/run/sleeper); sleep 3")
    said = do("dpkg -r dune-dkms")
    assert "is in use and stays loaded" in said
    assert "dune" in do("cut -d' ' -f1 /proc/modules").split()
    do("while [ -d /proc/$(cat /run/sleeper) ]; do sleep 0.2; done; rm /run/sleeper; rmmod dune")
    do("! modinfo dune")

    said = install(bare, do, [packages.package("dune-dkms")], DKMS_SECONDS)
    do("modprobe dune")
    do("dpkg --purge dune-dkms dune-run")
    assert "dune" not in do("cut -d' ' -f1 /proc/modules").split()
    do("! [ -e /dev/dune ]")
    assert do("dkms status") == ""
    assert traces(do) == before
