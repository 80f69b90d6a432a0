# SPDX-License-Identifier: MIT
"""The debug kernel: built from Debian's source, with the kernel's own alarms on.

What comes out has the layout of a kernel of the user's own (``own``): an image, a tree
to build modules against, modules.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed
from dunelab.images.archive import Archive
from dunelab.images.builder import COMPILER, WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.process import run
from dunelab.images.recipes import DebugKernelRecipe
from dunelab.images.resolve import Record

_FORMAT = "1"
# A quarter of an hour on two cores that nobody else works on.
_BUILD_SECONDS = 5400.0
# The configuration asks for debug information, KASAN and UBSAN, and modules built
# against it have all three: dune.ko's accesses are checked, its call traces resolved to
# lines.  The kernel itself does without: it is compiled in half the time, and runs on an
# emulator nearly as fast as another.
_KERNEL_ALONE = ("KCFLAGS=-g0", "KAFLAGS=-g0", "KASAN_SANITIZE=n", "UBSAN_SANITIZE=n")
_TREE = f"{WORK}/linux"
_FRAGMENT = "dunelab.config"


def debug_kernel(
    cache: Cache,
    builder: Callable[[], Builder],
    archive: Archive,
    recipe: DebugKernelRecipe,
    source: Record,
    progress: Callable[[str], None],
) -> Path:
    """The kernel's directory from the cache, built if it is not there."""
    root = builder()
    digest = (
        source.digest("debug kernel")
        .text("format", _FORMAT)
        .text("builder", root.identity)
        .file("config", recipe.config)
        .hex()
    )
    log = cache.logs / f"debug-kernel-{digest[:12]}.log"
    deadline = Deadline.after(_BUILD_SECONDS, f"kernel {recipe.id}")

    def make(folder: Path) -> None:
        progress(f"kernel {recipe.id}: building (a quarter of an hour or more; {log})")
        log.unlink(missing_ok=True)
        scratch = folder / "scratch"
        for deb in archive.fetch(source.packages).values():
            unpack(deb, scratch / "package", log)
        tree = scratch / "linux"
        tree.mkdir()
        tarball = scratch / "package" / recipe.tarball
        run(
            [
                *("tar", "-x", "-f", str(tarball), "-C", str(tree)),
                *("--strip-components=1", "--no-same-owner"),
            ],
            log=log,
            deadline=deadline,
            what=f"unpacking {tarball.name}",
        )
        shutil.rmtree(scratch / "package")
        _compile(root, recipe, tree, folder, log, deadline)
        shutil.rmtree(scratch)

    return cache.get_or_make("debug-kernel", digest, make, deadline)


def _compile(
    root: Builder,
    recipe: DebugKernelRecipe,
    tree: Path,
    folder: Path,
    log: Path,
    deadline: Deadline,
) -> None:
    out = folder / "scratch/out"
    (out / "headers").mkdir(parents=True)

    def make(*words: str, what: str) -> None:
        root.run(
            ["make", f"CC={COMPILER}", f"HOSTCC={COMPILER}", *words],
            binds={tree: _TREE, out: f"{WORK}/out"},
            cwd=_TREE,
            log=log,
            deadline=deadline,
            what=what,
        )

    shutil.copy(recipe.config, tree / _FRAGMENT)
    make(f"KCONFIG_ALLCONFIG={_FRAGMENT}", "allnoconfig", what=f"configuring {recipe.id}")
    lost = lost_options(recipe.config.read_text("utf-8"), (tree / ".config").read_text("utf-8"))
    if lost:
        raise BuildFailed(
            f"{recipe.config.name}: the kernel does not take {', '.join(lost)}", evidence=log
        )
    make(
        *_KERNEL_ALONE,
        *(f"-j{os.cpu_count() or 1}", "bzImage", "modules"),
        what=f"compiling {recipe.id}",
    )
    make(
        *(f"INSTALL_MOD_PATH={WORK}/out", "INSTALL_MOD_STRIP=1", "modules_install"),
        what=f"installing the modules of {recipe.id}",
    )
    # The kernel's own list of what out-of-tree modules need.
    script = f"$(srctree)/scripts/package/install-extmod-build {WORK}/out/headers"
    make("run-command", f"KBUILD_RUN_COMMAND={script}", what=f"headers of {recipe.id}")
    shutil.copy(tree / ".config", out / "headers/.config")
    shutil.move(out / "headers", folder / "headers")
    (modules,) = (out / "lib/modules").iterdir()
    (modules / "build").unlink(missing_ok=True)
    shutil.move(modules, folder / "modules")
    shutil.move(tree / "arch/x86/boot/bzImage", folder / "vmlinuz")


def lost_options(wanted: str, config: str) -> list[str]:
    """The options of a fragment that are not in the configuration made from it.

    Kconfig drops without a word what misses a dependency.
    """
    there = frozenset(config.splitlines())
    lines = (line.strip() for line in wanted.splitlines())
    return [line for line in lines if line and not line.startswith("#") and line not in there]
