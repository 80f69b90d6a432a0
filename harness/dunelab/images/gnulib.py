# SPDX-License-Identifier: MIT
"""gnulib's tests as programs: what ``dunelab fidelity`` runs as suite ``gnulib``."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.images.archive import Archive
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.module import copy_sources
from dunelab.images.recipes import GnulibRecipe
from dunelab.images.resolve import Record

ARCHIVE = "gnulib.tar"
_FORMAT = "1"
_SECONDS = 600.0
_SOURCES = "usr/share/gnulib"


def gnulib_tests(
    cache: Cache,
    builder: Builder,
    archive: Archive,
    recipe: GnulibRecipe,
    record: Record,
    progress: Callable[[str], None],
) -> Path:
    """A tar archive of the programs, each test-NAME, from the cache."""
    digest = record.digest("gnulib").text("format", _FORMAT).text("builder", builder.identity)
    name = digest.texts("tests", recipe.tests).tree("files", recipe.files).hex()
    evidence = cache.logs / f"gnulib-{name[:12]}.log"

    def make(folder: Path) -> None:
        progress("gnulib's tests")
        scratch = folder / "scratch"
        evidence.unlink(missing_ok=True)
        for deb in archive.fetch(record.packages).values():
            unpack(deb, scratch / "package", evidence)
        copy_sources(recipe.files, scratch / "build")
        (scratch / "out").mkdir()
        builder.run(
            [
                *("make", "-k", "-C", f"{WORK}/build", f"-j{os.cpu_count() or 1}", "CC=gcc-14"),
                *(f"GNULIB={WORK}/package/{_SOURCES}", f"O={WORK}/out"),
                f"TESTS={' '.join(recipe.tests)}",
            ],
            binds={scratch: WORK},
            log=evidence,
            deadline=Deadline.after(_SECONDS, "gnulib's tests"),
            what="building gnulib's tests",
        )
        with tarfile.open(folder / ARCHIVE, "w") as tar:
            for program in sorted((scratch / "out").iterdir()):
                tar.add(program, program.name)
        shutil.rmtree(scratch)

    return cache.get_or_make("gnulib", name, make) / ARCHIVE
