# SPDX-License-Identifier: MIT
"""images/sources.toml: others' sources, and what makes them others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dunelab.errors import UsageError
from dunelab.images.archive import Archive, Package
from dunelab.images.cache import Cache
from dunelab.images.resolve import Record
from dunelab.images.sources import Source, SourceRecipe, sources_digest
from dunelab.images.store import find_repo_root

PACKAGE = Package("libgc", "8.2", "0" * 64, 1, "pool/libgc_8.2.orig.tar.gz")


def source(cache: Path, patch: Path) -> Source:
    recipe = SourceRecipe("libgc", "bookworm", "libgc", "8.2", patch)
    return Source(recipe, Record("spec", "8.2", (PACKAGE,)), Archive(Cache(cache), "bookworm"))


def test_the_patches_are_there() -> None:
    recipes = SourceRecipe.read_all(find_repo_root() / "images/sources.toml")
    assert {recipe.name for recipe in recipes} == {"libgc", "expat", "w3m", "openssl"}
    assert [recipe.patch.is_file() for recipe in recipes if recipe.patch] == [True]


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(
        '[[source]]\nname = "a"\nsuite = "b"\nsource = "c"\nupstream = "1"\npatsch = 1\n'
    )
    with pytest.raises(UsageError, match="patsch"):
        SourceRecipe.read_all(file)


def test_the_digest_follows_patch_and_package(tmp_path: Path) -> None:
    patch = tmp_path / "libgc.patch"
    patch.write_text("one")
    first = source(tmp_path, patch)
    digest = sources_digest([first])
    newer = replace(first, record=Record("spec", "8.2", (replace(PACKAGE, sha256="1" * 64),)))
    assert sources_digest([newer]) != digest
    assert sources_digest([source(tmp_path, patch)]) == digest
    patch.write_text("two")
    assert sources_digest([first]) != digest
