# SPDX-License-Identifier: MIT
"""dunelab as pip installs it: from an sdist, by way of a wheel, away from any checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from dunelab.images.digest import Digest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0
# Of the root's entries, those that are nobody's source, and may change while they are copied.
NOT_SOURCE = {".git", ".venv", ".tox", ".mypy_cache", ".pytest_cache", ".ruff_cache", "results"}
# What is made from them must be what a checkout makes: same content, same cache entries.
FOLDERS = ("src", "tests", "images", "examples", "debian", "ci/baselines", "harness/acceptance")


def python(*words: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by way of an sdist; nothing is downloaded.

    The sdist is made in a copy: setuptools puts it together in a folder of the tree, where
    other workers, which make theirs at the same time, would find and remove it.
    """
    folder = tmp_path_factory.mktemp("packages")
    copy = folder / "checkout"
    shutil.copytree(
        ROOT,
        copy,
        symlinks=True,
        ignore=lambda where, names: NOT_SOURCE & set(names) if Path(where) == ROOT else (),
    )
    make = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    python("-c", make, cwd=copy)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    tree = folder / archive.name.removesuffix(".tar.gz")
    pip = ("-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "--no-index")
    python(*pip, "-w", str(folder), str(tree), cwd=folder)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with the wheel in it."""
    folder = tmp_path_factory.mktemp("site")
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder))
    python(*pip, str(wheel), cwd=folder)
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_the_tree_is_that_of_the_checkout(site: Path, name: str) -> None:
    installed = site / "dunelab/_tree" / name
    digests = [Digest("tree").tree(name, folder).hex() for folder in (ROOT / name, installed)]
    assert digests[0] == digests[1]


def test_the_data_files_are_there(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("results/schema.json", "bench/rows.toml", "fidelity/suites.toml", "py.typed"):
        assert f"dunelab/{name}" in names
    assert not [name for name in names if name.startswith(("unit/", "acceptance/"))]


def test_the_version_is_the_librarys(wheel: Path) -> None:
    version = (ROOT / "src/libdune/VERSION").read_text().strip()
    assert wheel.name.startswith(f"dunelab-{version}-")


def test_the_command_works_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    where = "import dunelab.images.store as store; print(store.find_repo_root())"
    assert python("-c", where, cwd=tmp_path, env=env).strip() == str(site / "dunelab/_tree")
    assert "show-command" in python("-m", "dunelab.cli.main", "--help", cwd=tmp_path, env=env)
    assert "debian-6.12" in python("-m", "dunelab.cli.main", "kernels", cwd=tmp_path, env=env)
