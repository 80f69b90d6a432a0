# SPDX-License-Identifier: MIT
"""What of others' the applications of src/apps are built on.

Source trees, patched, and packages with headers and libraries, unpacked.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.images.archive import Archive
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.digest import Digest
from dunelab.images.process import run
from dunelab.images.recipes import Table
from dunelab.images.resolve import Record

_FORMAT = "1"
_SECONDS = 120.0


@dataclass(frozen=True)
class SourceRecipe:
    """One source package, and the patch for it; or packages as they are."""

    name: str
    suite: str
    source: str
    upstream: str
    patch: Path | None
    packages: tuple[str, ...] = ()

    @classmethod
    def read_all(cls, path: Path) -> tuple[SourceRecipe, ...]:
        """From images/sources.toml."""
        table = Table.read(path)
        recipes = []
        for entry in table.tables("source"):
            ready = entry.has("packages")
            recipes.append(
                cls(
                    name=entry.text("name"),
                    suite=entry.text("suite"),
                    source="" if ready else entry.text("source"),
                    upstream="" if ready else entry.text("upstream"),
                    patch=path.parent / entry.text("patch") if entry.has("patch") else None,
                    packages=entry.texts("packages") if ready else (),
                )
            )
            entry.done()
        table.done()
        return tuple(recipes)


@dataclass(frozen=True)
class Source:
    """A recipe, and what it resolved to."""

    recipe: SourceRecipe
    record: Record
    archive: Archive


def sources_digest(sources: Sequence[Source]) -> str:
    """What the trees are made of."""
    digest = Digest("sources").text("format", _FORMAT)
    for source in sources:
        digest.text("name", source.recipe.name)
        digest.text("record", source.record.digest("source").hex())
        if source.recipe.patch is not None:
            digest.text("patch", source.recipe.patch.read_text(encoding="utf-8"))
    return digest.hex()


def source_trees(cache: Cache, sources: Sequence[Source], progress: Callable[[str], None]) -> Path:
    """A folder with a tree for each source, by its name; not to be changed."""
    key = sources_digest(sources)
    log = cache.logs / f"sources-{key[:12]}.log"

    def make(folder: Path) -> None:
        log.unlink(missing_ok=True)
        deadline = Deadline.after(_SECONDS, "sources of the applications")
        for source in sources:
            progress(f"source of {source.recipe.name}")
            tree = folder / "trees" / source.recipe.name
            if source.recipe.packages:
                for path in source.archive.fetch(source.record.packages).values():
                    unpack(path, tree, log)
            else:
                _unpack(source, tree, log, deadline)

    return cache.get_or_make("sources", key, make) / "trees"


def _unpack(source: Source, tree: Path, log: Path, deadline: Deadline) -> None:
    tree.mkdir(parents=True)
    tarball = next(iter(source.archive.fetch(source.record.packages).values()))
    name = source.recipe.name
    where = ("-C", str(tree), "--strip-components=1", "--no-same-owner")
    run(
        ["tar", "-x", "-f", str(tarball), *where],
        log=log,
        deadline=deadline,
        what=f"unpacking the source of {name}",
    )
    # Documents and test data are no part of a build, and some are large.
    shutil.rmtree(tree / "doc", ignore_errors=True)
    if source.recipe.patch is not None:
        run(
            ["git", "-C", str(tree), "apply", "-p1", str(source.recipe.patch.resolve())],
            log=log,
            deadline=deadline,
            what=f"patching {name}",
        )
