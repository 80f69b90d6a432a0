# SPDX-License-Identifier: MIT
"""Building libdune, its applications and the guest programs in the builder root.

Convention for the Makefiles: ``make -C DIR O=OUT`` writes below OUT only; all
but the library's are also told ``LIBDUNE=`` where that was built, ``APPS=`` where
the applications go, and ``THIRD_PARTY=`` where the trees of images/sources.toml are.  The
sources keep their places relative to each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, UsageError
from dunelab.images.builder import COMPILER, WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.images.module import copy_sources, find_warnings
from dunelab.images.sources import Source, source_trees, sources_digest

_SECONDS = 600.0
_FORMAT = "3"
LIBRARY = "src/libdune"
APPS = "src/apps"
PROGRAMS = "tests"
# Each source folder and the output folder it goes to, in the order of building.
_OUTPUTS = {LIBRARY: "library", APPS: "apps", PROGRAMS: "programs"}
# Not built here, but included by the above: the module's ABI header.
_INCLUDED = ("src/kmod/include",)


@dataclass(frozen=True)
class ProgramSet:
    """What came out: ``library``, ``apps`` and ``programs`` are the output folders."""

    dir: Path
    library: Path
    apps: Path
    programs: Path
    digest: str
    log: Path

    def program(self, name: str) -> Path:
        """One program, by its path below the output folder."""
        return _executable(self.programs, name)

    def app(self, name: str) -> Path:
        """One application, by its name."""
        return _executable(self.apps, name)


def _executable(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        built = sorted(
            item.relative_to(folder).as_posix()
            for item in folder.rglob("*")
            if item.is_file() and os.access(item, os.X_OK)
        )
        raise UsageError(f"no guest program '{name}'; there are: {', '.join(built)}")
    return path


def build_programs(
    cache: Cache,
    builder: Builder,
    repo_root: Path,
    sources: Sequence[Source],
    progress: Callable[[str], None],
) -> ProgramSet:
    """Build the library, then all that uses it, from the tree at ``repo_root``.

    ``sources`` are others', that applications are built on.
    """
    for folder in _OUTPUTS:
        if not (repo_root / folder / "Makefile").is_file():
            raise UsageError(f"{repo_root / folder} has no Makefile")
    inputs = [name for name in (*_OUTPUTS, *_INCLUDED) if (repo_root / name).is_dir()]
    digest = Digest("programs").text("format", _FORMAT).text("builder", builder.identity)
    for name in inputs:
        digest.tree(name, repo_root / name)
    digest.text("sources", sources_digest(sources))
    name = digest.hex()
    evidence = cache.logs / f"programs-{name[:12]}.log"

    def make(folder: Path) -> None:
        trees = source_trees(cache, sources, progress)
        progress("libdune, applications and guest programs")
        tree = folder / "scratch"
        for part in inputs:
            copy_sources(repo_root / part, tree / part)
        for output in _OUTPUTS.values():
            (folder / output).mkdir()
        evidence.unlink(missing_ok=True)
        deadline = Deadline.after(_SECONDS, "guest programs")
        for source, output in _OUTPUTS.items():
            builder.run(
                [
                    *("make", "-C", f"{WORK}/tree/{source}", f"-j{os.cpu_count() or 1}"),
                    *(f"O={WORK}/out/{output}", f"LIBDUNE={WORK}/out/library"),
                    *(f"APPS={WORK}/out/{_OUTPUTS[APPS]}", f"THIRD_PARTY={WORK}/sources"),
                    *(f"CC={COMPILER}", "CXX=g++-14"),
                ],
                binds={tree: f"{WORK}/tree", folder: f"{WORK}/out", trees: f"{WORK}/sources"},
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
    library, apps, programs = (entry / output for output in _OUTPUTS.values())
    return ProgramSet(entry, library, apps, programs, name, entry / "build.log")
