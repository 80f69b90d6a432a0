# SPDX-License-Identifier: MIT
"""Others' test programs, compiled for ``dunelab fidelity``: one tar archive a suite."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.images.archive import Archive
from dunelab.images.builder import COMPILER, WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.module import copy_sources
from dunelab.images.process import run
from dunelab.images.recipes import SuiteRecipe
from dunelab.images.resolve import Record

_FORMAT = "2"
_SECONDS = 1200.0


@dataclass(frozen=True)
class SuiteBuild:
    """What a suite's programs are made of and made with."""

    cache: Cache
    builder: Builder
    archive: Archive
    recipe: SuiteRecipe
    record: Record

    def programs(self, progress: Callable[[str], None]) -> Path:
        """A tar archive of the programs, from the cache; what does not compile is not in it."""
        name = self.recipe.name
        digest = self.record.digest(name).text("format", _FORMAT)
        digest.text("builder", self.builder.identity).texts("tests", self.recipe.tests)
        key = digest.tree("files", self.recipe.files).hex()
        evidence = self.cache.logs / f"{name}-{key[:12]}.log"

        def make(folder: Path) -> None:
            progress(f"{name}'s tests (minutes)")
            evidence.unlink(missing_ok=True)
            self._compile(folder / "scratch", evidence)
            with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as tar:
                for program in sorted((folder / "scratch/out").iterdir()):
                    tar.add(program, program.name)
            shutil.rmtree(folder / "scratch")

        return self.cache.get_or_make(name, key, make) / f"{name}.tar.gz"

    def _compile(self, scratch: Path, evidence: Path) -> None:
        deadline = Deadline.after(_SECONDS, f"{self.recipe.name}'s tests")
        for path in self.archive.fetch(self.record.packages).values():
            if path.suffix == ".deb":
                unpack(path, scratch / "source", evidence)
                continue
            (scratch / "source").mkdir(parents=True, exist_ok=True)
            where = ("-C", str(scratch / "source"), "--strip-components=1", "--no-same-owner")
            run(
                ["tar", "-x", "-f", str(path), *where],
                log=evidence,
                deadline=deadline,
                what=f"unpacking {path.name}",
            )
        copy_sources(self.recipe.files, scratch / "build")
        (scratch / "out").mkdir()
        self.builder.run(
            [
                *("make", "-k", "-C", f"{WORK}/build", f"-j{os.cpu_count() or 1}"),
                *(f"CC={COMPILER}", f"SOURCE={WORK}/source", f"O={WORK}/out"),
                f"TESTS={' '.join(self.recipe.tests)}",
            ],
            binds={scratch: WORK},
            log=evidence,
            deadline=deadline,
            what=f"building {self.recipe.name}'s tests",
        )
