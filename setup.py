# SPDX-License-Identifier: MIT
"""Puts what dunelab builds and tests, which lies beside the package, into the wheel.

A wheel has it below ``dunelab/_tree``, laid out as in a checkout;
``dunelab.images.store.find_repo_root`` finds either.  All else is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
TREE = (
    "LICENSES",
    "ci/baselines",
    "debian",
    "docs",
    "examples",
    "harness/acceptance",
    "images",
    "pyproject.toml",
    "src",
    "tests",
)
# As in dunelab.images.digest, which is not to be imported before it is installed.
LITTER = shutil.ignore_patterns(
    *("__pycache__", "*.pyc", "*.o", "*.ko", "*.a", "*.so", "*.mod", "*.mod.c", "*.cmd", "*.d"),
    *("Module.symvers", "modules.order", "build"),
)


class BuildWithTree(build_py):
    """The usual build, and the tree."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "dunelab" / "_tree"
        # What an earlier build left there may be gone by now.
        shutil.rmtree(target, ignore_errors=True)
        for name in TREE:
            copy = target / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy, ignore=LITTER)
            else:
                shutil.copy(ROOT / name, copy)
        # A link in the checkout, which an sdist cannot hold.
        uapi = target / "src/libdune/include/libdune/uapi"
        shutil.copytree(ROOT / "src/kmod/include/uapi", uapi, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithTree})
