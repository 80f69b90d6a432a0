# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest

from dunelab.errors import UsageError
from dunelab.images import own
from dunelab.images.cache import Cache
from dunelab.images.store import Store

RELEASE = "6.9.1-mine"


def tree(path: Path, gcc: str = "140200") -> Path:
    """What is looked at of a tree that modules can be built against."""
    (path / "include/config").mkdir(parents=True)
    (path / "include/config/kernel.release").write_text(f"{RELEASE}\n", encoding="utf-8")
    (path / "Module.symvers").write_text("0x1\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n")
    (path / ".config").write_text(f"CONFIG_GCC_VERSION={gcc}\n", encoding="utf-8")
    return path


def with_modules(path: Path) -> Path:
    (path / "drivers/net").mkdir(parents=True)
    (path / "drivers/net/e1000.ko").write_bytes(b"x")
    (path / "modules.builtin").write_text("kernel/drivers/net/virtio_net.ko\n", encoding="utf-8")
    return path


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A tree that a kernel was built in."""
    path = with_modules(tree(tmp_path / "Linux_6.9"))
    (path / "arch/x86/boot").mkdir(parents=True)
    (path / "arch/x86/boot/bzImage").write_bytes(b"image")
    return path


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A directory with an image, modules, and headers as Debian cuts them."""
    path = tmp_path / "mine"
    with_modules(path / "modules")
    tree(path / "headers/src" / f"linux-headers-{RELEASE}")
    (path / "headers/src/linux-headers-6.9-common").mkdir()
    (path / "headers/lib/linux-kbuild-6.9").mkdir(parents=True)
    (path / "vmlinuz").write_bytes(b"image")
    return path


def test_a_built_tree(built: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    name = own.adopt(cache, built)
    assert name.startswith("own-linux-6.9-")
    assert own.is_own(name)
    kernel = own.open_own(cache, name)
    assert (kernel.id, kernel.release) == (name, RELEASE)
    assert kernel.vmlinuz == built / "arch/x86/boot/bzImage"
    mounts = {path.resolve(): inside for path, inside in kernel.build_mounts.items()}
    assert mounts == {built: f"/usr/src/linux-headers-{RELEASE}"}
    assert kernel.gcc_version == 140200
    entry = own.own_entry(cache, name)
    assert (entry.version, entry.flavour) == ((6, 9), "own")


def test_debians_headers(debian: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    kernel = own.open_own(cache, own.adopt(cache, debian))
    assert sorted(kernel.build_mounts.values()) == [
        "/usr/lib/linux-kbuild-6.9",
        "/usr/src/linux-headers-6.9-common",
        f"/usr/src/linux-headers-{RELEASE}",
    ]
    assert kernel.modules == debian / "modules"


def test_whatever_changes_changes_the_digest(built: Path, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    name = own.adopt(cache, built)

    def digest() -> str:
        return own.open_own(cache, name).record.digest("x").hex()

    before = digest()
    assert digest() == before
    (built / "drivers/net/e1000.ko").write_bytes(b"longer")
    after = digest()
    assert after != before
    (built / "arch/x86/boot/bzImage").write_bytes(b"another")
    assert digest() != after


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("Module.symvers", r"Module\.symvers is missing"),
        ("modules.builtin", r"modules\.builtin is missing"),
        ("arch/x86/boot/bzImage", "neither a tree with a built"),
    ],
)
def test_what_is_missing_is_named(built: Path, missing: str, message: str) -> None:
    (built / missing).unlink()
    with pytest.raises(UsageError, match=message):
        own.look_at(built)


def test_other_refusals(built: Path, debian: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such directory"):
        own.look_at(tmp_path / "nowhere")
    tree(debian / "headers/src/linux-headers-another")
    with pytest.raises(UsageError, match="headers of one kernel, and holds those of 2"):
        own.look_at(debian)
    (built / "source").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="was built with O= from"):
        own.look_at(built)
    with pytest.raises(UsageError, match="no kernel of yours has the id 'own-x'"):
        own.open_own(Cache(tmp_path / "cache"), "own-x")


def test_a_path_is_told_from_an_id(built: Path, tmp_path: Path) -> None:
    assert own.is_path("./linux")
    assert own.is_path("..")
    assert not own.is_path("debian-6.12")
    (tmp_path / "images").mkdir()
    store = Store(Cache(tmp_path / "cache"), tmp_path)
    name = store.kernel_id(str(built))
    assert store.kernel_id(name) == name
    assert store.kernel(str(built)) is store.kernel(name)
    assert store.entry(name).id == name
