# SPDX-License-Identifier: MIT
from __future__ import annotations

import re
from pathlib import Path

import pytest

from dunelab.errors import UsageError
from dunelab.images.cache import Cache
from dunelab.images.debug_kernel import lost_options
from dunelab.images.recipes import DebugKernelRecipe
from dunelab.images.store import Store, find_repo_root
from dunelab.spec import GuestImage, ImageKind

IMAGES = find_repo_root(Path(__file__).parent) / "images"
RECIPE = DebugKernelRecipe.read(IMAGES / "debug-kernel.toml")


def test_what_kconfig_drops_is_named() -> None:
    wanted = "# why\nCONFIG_A=y\n\nCONFIG_B=m\nCONFIG_C=8\n"
    assert lost_options(wanted, "CONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n") == [
        "CONFIG_B=m",
        "CONFIG_C=8",
    ]
    assert lost_options(wanted, "CONFIG_C=8\nCONFIG_B=m\nCONFIG_A=y\nCONFIG_D=y\n") == []


def test_the_fragment_sets_each_option_once() -> None:
    names = re.findall(r"^(CONFIG_\w+)=", RECIPE.config.read_text("utf-8"), re.MULTILINE)
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))


def test_the_alarms_are_in_the_fragment() -> None:
    lines = RECIPE.config.read_text("utf-8").splitlines()
    for name in ("KASAN", "PROVE_LOCKING", "DEBUG_KMEMLEAK", "DEBUG_ATOMIC_SLEEP", "FAILSLAB"):
        assert f"CONFIG_{name}=y" in lines


def test_it_is_a_kernel_when_asked_for_and_only_then(tmp_path: Path) -> None:
    store = Store(Cache(tmp_path), IMAGES.parent)
    assert RECIPE.id not in [entry.id for entry in store.matrix.kernels]
    entry = store.entry(RECIPE.id)
    assert (entry.id, entry.version, entry.memory_mib) == (RECIPE.id, (6, 12), RECIPE.memory_mib)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="no kernel"):
        store.entry("debug-6.13")


def test_a_guest_gets_the_memory_its_kernel_needs() -> None:
    def memory(kind: ImageKind, extra: int) -> int:
        path = Path("x")
        image = GuestImage("k", "6.12", path, path, None, "root", path, "d", kind, extra_mib=extra)
        return image.memory_mib

    assert memory(ImageKind.SMALL, 0) == 512
    assert memory(ImageKind.FULL, 512) == 1536
