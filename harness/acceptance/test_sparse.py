# SPDX-License-Identifier: MIT
"""Sparse reads dune.ko as it is built for the kernel of the run, and has nothing to say.

It runs here and not in the builder root, on the kernel's own headers.  What it warns of
in those is not counted; those it cannot read make it blind to what comes after.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path

import pytest
from host_commands import REPOSITORY, run_on_host

from dunelab.dune.lab import DuneLab
from dunelab.images.kernel import Kernel
from dunelab.spec import Cell

SOURCES = REPOSITORY / "src/kmod"
SECONDS = 120.0
# As the kernel's own Makefiles call it (CHECKFLAGS), for x86-64.
FLAGS = (
    *("-D__linux__", "-Dlinux", "-D__STDC__", "-Dunix", "-D__unix__", "-D__x86_64__"),
    *("-Wbitwise", "-Wno-return-void", "-Wno-unknown-attribute"),
    *("--arch=x86", "-mlittle-endian", "-m64", "-std=gnu11", "-nostdinc"),
    *("-D__KERNEL__", "-DMODULE", "-DCC_USING_FENTRY", '-DKBUILD_MODNAME="dune"'),
    *("-D__KBUILD_MODNAME=kmod_dune", '-DKBUILD_MODFILE="dune"'),
)
WRONG = """
#include <linux/compiler.h>
int peek(const int __user *p) { return *p; }
"""


@cache
def compilers_headers() -> str:
    """Until 5.15 the kernel took stdarg.h from the compiler."""
    return run_on_host("gcc", "-print-file-name=include", seconds=SECONDS).stdout.strip()


def header_flags(kernel: Kernel) -> list[str]:
    """Where the kernel's Makefile finds headers; what it includes ahead of all."""
    trees = {path.name: path for path in (kernel.headers / "src").iterdir()}
    made = trees[f"linux-headers-{kernel.release}"]
    common = next((p for name, p in trees.items() if name.endswith("-common")), made)
    folders = [
        *(common / "arch/x86/include", made / "arch/x86/include/generated"),
        *(common / "include", made / "include"),
        *(common / "arch/x86/include/uapi", made / "arch/x86/include/generated/uapi"),
        *(common / "include/uapi", made / "include/generated/uapi"),
    ]
    ahead = [
        common / "include/linux" / name
        for name in ("compiler-version.h", "kconfig.h", "compiler_types.h")
    ]
    return [
        *(f"-I{folder}" for folder in folders),
        *("-isystem", compilers_headers()),
        *(word for path in ahead if path.exists() for word in ("-include", str(path))),
    ]


def said(kernel: Kernel, source: Path) -> list[str]:
    """The warnings and errors of sparse that name a file of the module's."""
    if shutil.which("sparse") is None:
        pytest.skip("sparse is not installed: apt-get install sparse")
    done = run_on_host(
        *("sparse", *FLAGS, f'-DKBUILD_BASENAME="{source.stem}"', *header_flags(kernel)),
        source.name,
        seconds=SECONDS,
        cwd=source.parent,
    )
    lines = done.stderr.splitlines()
    if unread := [line for line in lines if re.match(r"/.*: error: ", line)]:
        pytest.skip(f"this sparse cannot read the headers of {kernel.release}: {unread[0]}")
    ours = re.compile(r"[a-z0-9_/]+\.[ch]:\d+:\d+: (?!note)")
    return [line for line in lines if ours.match(line)]


@pytest.fixture
def kernel(cell: Cell, lab: DuneLab) -> Kernel:
    """The kernel of the run."""
    return lab.store.kernel(cell.kernel)


def test_sparse_has_nothing_to_say(kernel: Kernel) -> None:
    sources = sorted(SOURCES.glob("*.c"))
    assert sources
    assert [line for source in sources for line in said(kernel, source)] == []


def test_sparse_sees_user_memory_read_as_the_kernels_own(kernel: Kernel, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.c"
    wrong.write_text(WRONG, encoding="utf-8")
    assert [line for line in said(kernel, wrong) if "noderef" in line], "sparse is blind"
