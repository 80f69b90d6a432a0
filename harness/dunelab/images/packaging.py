# SPDX-License-Identifier: MIT
"""Debian packages of the module's source, the library and dune-run.

``debian/`` of the tree says how; dpkg-buildpackage and lintian run in a root of
their own.  A tag of lintian's class error or warning is a failure.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, UsageError
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.images.module import copy_sources

_FORMAT = "1"
_BUILD_SECONDS = 900.0
_LINTIAN_SECONDS = 300.0
# What the source package consists of.
_INPUTS = ("debian", "src", "LICENSES")
_DEBUG = "-dbgsym"


@dataclass(frozen=True)
class DebianPackages:
    """``dir`` holds the packages, the source package and what was said in the making."""

    dir: Path
    packages: tuple[Path, ...]
    log: Path

    def package(self, name: str) -> Path:
        """The file of one binary package."""
        for path in self.packages:
            if package_name(path) == name:
                return path
        names = ", ".join(package_name(path) for path in self.packages)
        raise UsageError(f"there is no package '{name}'; there are: {names}")


def package_name(path: Path) -> str:
    """``libdune1`` of ``libdune1_0.1.0_amd64.deb``."""
    return path.name.partition("_")[0]


def debian_packages(
    cache: Cache, packager: Builder, repo_root: Path, progress: Callable[[str], None]
) -> DebianPackages:
    """Build them from the tree at ``repo_root``, or find them built."""
    digest = Digest("debian packages").text("format", _FORMAT).text("packager", packager.identity)
    for part in _INPUTS:
        if not (repo_root / part).is_dir():
            raise UsageError(f"{repo_root} has no {part}/, so there is nothing to package")
        digest.tree(part, repo_root / part)
    name = digest.hex()
    evidence = cache.logs / f"debs-{name[:12]}.log"

    def make(folder: Path) -> None:
        progress("Debian packages")
        scratch = folder / "scratch"
        for part in _INPUTS:
            copy_sources(repo_root / part, scratch / "libdune" / part)
        evidence.unlink(missing_ok=True)

        def in_root(*argv: str, what: str, seconds: float) -> None:
            packager.run(
                # Dates come from debian/changelog.
                ["env", "-u", "SOURCE_DATE_EPOCH", *argv],
                binds={scratch: WORK},
                cwd=f"{WORK}/libdune",
                log=evidence,
                deadline=Deadline.after(seconds, what),
                what=what,
            )

        in_root(
            *("dpkg-buildpackage", "--no-sign"),
            what="dpkg-buildpackage",
            seconds=_BUILD_SECONDS,
        )
        in_root(
            *("sh", "-c", "exec lintian --allow-root --fail-on error,warning ../*.changes"),
            what="lintian",
            seconds=_LINTIAN_SECONDS,
        )
        shutil.rmtree(scratch / "libdune")
        for path in scratch.iterdir():
            shutil.move(path, folder / path.name)
        scratch.rmdir()
        shutil.copy(evidence, folder / "build.log")

    entry = cache.get_or_make("debs", name, make)
    found = tuple(
        path for path in sorted(entry.glob("*.deb")) if not package_name(path).endswith(_DEBUG)
    )
    if not found:
        raise BuildFailed("dpkg-buildpackage made no package", evidence=entry / "build.log")
    return DebianPackages(entry, found, entry / "build.log")
