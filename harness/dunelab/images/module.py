# SPDX-License-Identifier: MIT
"""Building an out-of-tree kernel module against one kernel's own headers."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, UsageError
from dunelab.images.builder import COMPILER, WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import source_files
from dunelab.images.kernel import Kernel

_BUILD_SECONDS = 300.0
_FORMAT = "3"


@dataclass(frozen=True)
class ModuleBuild:
    """One module for one kernel.

    ``path_debug`` has the debug information that symbolising a splat needs;
    ``path_stripped`` is what a guest gets.
    """

    name: str
    release: str
    path_stripped: Path
    path_debug: Path
    build_id: str
    log: Path


def build_module(
    cache: Cache,
    builder: Builder,
    kernel: Kernel,
    source: Path,
    progress: Callable[[str], None],
) -> ModuleBuild:
    """Build ``source`` (a folder with a Kbuild file) for ``kernel``.

    The source tree is copied, never written to.  A warning of the compiler,
    objtool or modpost is a failure.
    """
    if not any((source / name).is_file() for name in ("Kbuild", "Makefile")):
        raise UsageError(f"{source} has no Kbuild file, so there is no module to build")
    digest = (
        kernel.record.digest("kernel module")
        .text("format", _FORMAT)
        .text("builder", builder.identity)
        .tree("sources", source)
        .hex()
    )
    evidence = cache.logs / f"module-{kernel.id}-{digest[:12]}.log"

    def make(folder: Path) -> None:
        progress(f"module {source.name} for {kernel.release}")
        _compile(builder, kernel, source, folder, evidence)

    entry = cache.get_or_make("module", digest, make)
    stripped = sorted(entry.glob("*.ko"))[0]
    debug = entry / "debug" / stripped.name
    return ModuleBuild(
        name=stripped.stem.replace("-", "_"),
        release=kernel.release,
        path_stripped=stripped,
        path_debug=debug,
        build_id=read_build_id(debug),
        log=entry / "build.log",
    )


def _compile(builder: Builder, kernel: Kernel, source: Path, folder: Path, log: Path) -> None:
    scratch = folder / "scratch"
    copy_sources(source, scratch)
    log.unlink(missing_ok=True)
    mounts = {**kernel.build_mounts, scratch: f"{WORK}/module"}
    deadline = Deadline.after(_BUILD_SECONDS, f"module for {kernel.release}")

    def in_root(*argv: str, what: str) -> None:
        builder.run(
            argv,
            binds=mounts,
            log=log,
            deadline=deadline,
            what=what,
            # Debian's header packages compare compilers by name; one newer
            # compiler builds for all of them.
            env={"DEBIAN_KERNEL_NO_CC_VERSION_CHECK": "y"},
        )

    in_root(
        # -k: every file that breaks, not the first alone.
        *("make", "-k", "-C", f"/usr/src/linux-headers-{kernel.release}", f"M={WORK}/module"),
        *(f"CC={COMPILER}", f"HOSTCC={COMPILER}", f"-j{os.cpu_count() or 1}"),
        *compiler_flags(kernel.gcc_version, builder.gcc_version),
        # Type information for BPF would need pahole and is of no use here.
        *("CONFIG_DEBUG_INFO_BTF_MODULES=", "modules"),
        what=f"building {source.name} for {kernel.release}",
    )
    warnings = find_warnings(log.read_text(encoding="utf-8", errors="replace"))
    if warnings:
        raise BuildFailed(
            f"building {source.name} for {kernel.release} gave "
            f"{len(warnings)} warning(s), first: {warnings[0]}",
            evidence=log,
        )
    built = sorted(scratch.glob("*.ko"))
    if len(built) != 1:
        raise BuildFailed(
            f"{source} must build exactly one module, got: {[path.name for path in built]}",
            evidence=log,
        )
    name = built[0].name
    in_root(
        *("strip", "--strip-debug", f"{WORK}/module/{name}", "-o", f"{WORK}/module/stripped"),
        what="stripping the module",
    )
    (folder / "debug").mkdir()
    shutil.move(scratch / "stripped", folder / name)
    shutil.move(built[0], folder / "debug" / name)
    shutil.copy(log, folder / "build.log")
    shutil.rmtree(scratch)


def compiler_flags(kernel_gcc: int, builder_gcc: int) -> list[str]:
    """What make is told where the kernel's own compiler is newer than the builder's.

    Such a kernel's headers use attributes (counted_by on pointers, since GCC 16) that
    its configuration says the compiler knows: ours says it ignores them.
    """
    return ["KCFLAGS=-Wno-attributes"] if kernel_gcc // 10000 > builder_gcc // 10000 else []


def copy_sources(source: Path, target: Path) -> None:
    """Copy what ``source_files`` lists, so that only digested files are compiled."""
    for path in source_files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)


_WARNING = re.compile(r"\bwarning\b\s*(\[[^]]*\])?:", re.IGNORECASE)
# What the kernel's Makefile says when CC= differs from its own compiler, and where there
# is no pahole, which is not needed: the module has no type information for BPF.
_HARMLESS = re.compile(
    r"warning: the compiler differs from the one used to build the kernel"
    r"|warning: pahole version differs from the one used to build the kernel"
)


def find_warnings(log: str) -> list[str]:
    """Lines of a build log in which the compiler, objtool or modpost warns."""
    return [
        line.strip()
        for line in log.splitlines()
        if _WARNING.search(line) and not _HARMLESS.search(line)
    ]


def read_build_id(path: Path) -> str:
    """The GNU build id of an ELF file, in hex."""
    with path.open("rb") as stream:
        for section in ELFFile(stream).iter_sections():
            if isinstance(section, NoteSection):
                for note in section.iter_notes():
                    if note["n_type"] == "NT_GNU_BUILD_ID":
                        return str(note["n_desc"])
    raise BuildFailed(f"{path.name} has no build id", evidence=path)
