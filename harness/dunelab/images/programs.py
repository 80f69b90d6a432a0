# SPDX-License-Identifier: MIT
"""Building libdune and the guest programs in the builder root.

Convention for the Makefiles: ``make -C DIR O=OUT`` writes below OUT only; the
tests' Makefile is also told ``LIBDUNE=`` where the library was built.  The
sources keep their places relative to each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, UsageError
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.images.module import copy_sources, find_warnings

_SECONDS = 600.0
_FORMAT = "2"
LIBRARY = "src/libdune"
PROGRAMS = "tests"
# Not built here, but included by the above: the module's ABI header.
_INCLUDED = ("src/kmod/include",)


@dataclass(frozen=True)
class ProgramSet:
    """What came out: ``library`` and ``programs`` are the two output folders."""

    dir: Path
    library: Path
    programs: Path
    digest: str
    log: Path

    def program(self, name: str) -> Path:
        """One program, by its path below the output folder."""
        path = self.programs / name
        if not path.is_file():
            built = sorted(
                item.relative_to(self.programs).as_posix()
                for item in self.programs.rglob("*")
                if item.is_file() and os.access(item, os.X_OK)
            )
            raise UsageError(f"no guest program '{name}'; there are: {', '.join(built)}")
        return path


def build_programs(
    cache: Cache, builder: Builder, repo_root: Path, progress: Callable[[str], None]
) -> ProgramSet:
    """Build the library, then the programs, from the tree at ``repo_root``."""
    for folder in (LIBRARY, PROGRAMS):
        if not (repo_root / folder / "Makefile").is_file():
            raise UsageError(f"{repo_root / folder} has no Makefile")
    inputs = [name for name in (LIBRARY, PROGRAMS, *_INCLUDED) if (repo_root / name).is_dir()]
    digest = Digest("programs").text("format", _FORMAT).text("builder", builder.identity)
    for name in inputs:
        digest.tree(name, repo_root / name)
    name = digest.hex()
    evidence = cache.logs / f"programs-{name[:12]}.log"

    def make(folder: Path) -> None:
        progress("libdune and guest programs")
        tree = folder / "scratch"
        for part in inputs:
            copy_sources(repo_root / part, tree / part)
        for output in ("library", "programs"):
            (folder / output).mkdir()
        evidence.unlink(missing_ok=True)
        deadline = Deadline.after(_SECONDS, "guest programs")
        for source, output in ((LIBRARY, "library"), (PROGRAMS, "programs")):
            builder.run(
                [
                    *("make", "-C", f"{WORK}/tree/{source}", f"-j{os.cpu_count() or 1}"),
                    *(f"O={WORK}/out/{output}", f"LIBDUNE={WORK}/out/library"),
                    *("CC=gcc-14", "CXX=g++-14"),
                ],
                binds={tree: f"{WORK}/tree", folder: f"{WORK}/out"},
                log=evidence,
                deadline=deadline,
                what=f"building {source}",
            )
        warnings = find_warnings(evidence.read_text(encoding="utf-8", errors="replace"))
        if warnings:
            raise BuildFailed(
                f"building the guest programs gave {len(warnings)} warning(s), "
                f"first: {warnings[0]}",
                evidence=evidence,
            )
        shutil.copy(evidence, folder / "build.log")
        shutil.rmtree(tree)

    entry = cache.get_or_make("programs", name, make)
    return ProgramSet(entry, entry / "library", entry / "programs", name, entry / "build.log")
