# SPDX-License-Identifier: MIT
"""debian/ agrees with the rest of the tree; the packages themselves are the acceptance suite's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dunelab.errors import UsageError
from dunelab.images.packaging import DebianPackages, package_name
from dunelab.images.recipes import BuilderRecipe

ROOT = Path(__file__).resolve().parents[2]


def test_one_version() -> None:
    version = (ROOT / "src/libdune/VERSION").read_text().strip()
    newest = re.match(r"libdune \(([^)]+)\)", (ROOT / "debian/changelog").read_text())
    assert newest is not None
    assert newest[1] == version


def test_what_builds_the_packages_is_in_the_root_that_builds_them() -> None:
    control = (ROOT / "debian/control").read_text()
    packages = BuilderRecipe.read(ROOT / "images/packager.toml").packages
    needed = re.findall(r"^Build-Depends: (.*)$", control, re.MULTILINE)[0].split(", ")
    assert needed == ["debhelper-compat (= 13)", "dh-sequence-dkms"]
    assert {"build-essential", "debhelper", "dh-dkms", "lintian"} <= set(packages)


def test_each_override_says_why() -> None:
    for path in (ROOT / "debian").glob("*.lintian-overrides"):
        assert path.read_text().startswith("# "), path


def test_a_package_by_its_name(tmp_path: Path) -> None:
    files = (tmp_path / "dune-dkms_0.1.0_all.deb", tmp_path / "libdune1_0.1.0_amd64.deb")
    made = DebianPackages(tmp_path, files, tmp_path / "build.log")
    assert package_name(files[1]) == "libdune1"
    assert made.package("dune-dkms") == files[0]
    with pytest.raises(UsageError, match="there are: dune-dkms, libdune1"):
        made.package("dune")
