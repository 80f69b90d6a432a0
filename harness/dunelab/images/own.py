# SPDX-License-Identifier: MIT
"""A kernel of the user's own, by its path.

Either a tree that a kernel was built in, or a directory with

    vmlinuz          the image
    headers          a tree to build modules against, or Debian's: src/ and lib/, which
                     are usr/src and the usr/lib/linux-kbuild-* of its packages
    modules          what belongs to /lib/modules/RELEASE, modules.builtin included

Nothing is copied.  The kernel gets an id from its path, which can be used wherever an
id of kernels.toml can, for as long as the path is there.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from dunelab.errors import UsageError
from dunelab.images.archive import Package
from dunelab.images.cache import Cache, write_atomically
from dunelab.images.digest import sha256_file
from dunelab.images.kernel import Kernel
from dunelab.images.kernels import KernelEntry
from dunelab.images.resolve import Record

PREFIX = "own-"
FLAVOUR = "own"
_LAYOUT = "see the directory's layout in docs/kernels.md"


@dataclass(frozen=True)
class OwnKernel:
    """What was found at a path: image, tree to build against, modules."""

    release: str
    vmlinuz: Path
    tree: Path
    modules: Path
    others: tuple[Path, ...] = ()
    kbuild: tuple[Path, ...] = ()


def is_path(word: str) -> bool:
    """Whether ``--kernel`` names a path and not an id."""
    return "/" in word or word in (".", "..")


def is_own(kernel_id: str) -> bool:
    """Whether an id is one of ``adopt``'s."""
    return kernel_id.startswith(PREFIX)


def own_id(path: Path) -> str:
    """The id of the kernel at a path."""
    slug = re.sub(r"[^a-z0-9.]+", "-", path.name.lower()).strip("-.") or "kernel"
    return f"{PREFIX}{slug}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"


def look_at(path: Path) -> OwnKernel:
    """What is at a path; UsageError says what is missing."""
    if not path.is_dir():
        raise UsageError(f"--kernel {path}: there is no such directory")
    if (path / "arch/x86/boot/bzImage").is_file():
        return _built_tree(path)
    image = next((path / name for name in ("vmlinuz", "bzImage") if (path / name).is_file()), None)
    if image is None:
        raise UsageError(
            f"{path} is neither a tree with a built arch/x86/boot/bzImage nor has it a vmlinuz",
            next_command=_LAYOUT,
        )
    modules = path / "modules" if (path / "modules").is_dir() else path
    _require(modules / "modules.builtin")
    headers = path / "headers"
    if not (headers / "src").is_dir():
        return OwnKernel(_release(headers), image, headers, modules)
    trees = sorted((headers / "src").iterdir())
    own = [tree for tree in trees if (tree / "Module.symvers").is_file()]
    if len(own) != 1:
        raise UsageError(
            f"{headers}/src must hold the headers of one kernel, and holds those of {len(own)}",
            next_command=_LAYOUT,
        )
    others = tuple(tree for tree in trees if tree not in own)
    kbuild = tuple(sorted((headers / "lib").iterdir())) if (headers / "lib").is_dir() else ()
    return OwnKernel(_release(own[0]), image, own[0], modules, others, kbuild)


def _built_tree(path: Path) -> OwnKernel:
    if (path / "source").is_symlink():
        raise UsageError(
            f"{path} was built with O= from {(path / 'source').resolve()}: its Makefile names a "
            "path that the builder does not see",
            next_command=f"build in the source tree itself; or {_LAYOUT}",
        )
    _require(path / "modules.builtin")
    return OwnKernel(_release(path), path / "arch/x86/boot/bzImage", path, path)


def _release(tree: Path) -> str:
    _require(tree / "Module.symvers")
    _require(tree / ".config")
    name = tree / "include/config/kernel.release"
    _require(name)
    return name.read_text(encoding="utf-8").strip()


def _require(path: Path) -> None:
    if not path.is_file():
        raise UsageError(
            f"{path} is missing: the kernel was not built (make bzImage modules), or not whole",
            next_command=_LAYOUT,
        )


def adopt(cache: Cache, path: Path) -> str:
    """Give the kernel at a path an id, and remember whose it is."""
    resolved = path.resolve()
    look_at(resolved)
    name = own_id(resolved)
    write_atomically(_folder(cache, name) / "path", f"{resolved}\n")
    return name


def _folder(cache: Cache, name: str) -> Path:
    return cache.root / "own" / name


def _path_of(cache: Cache, name: str) -> Path:
    remembered = _folder(cache, name) / "path"
    if not remembered.is_file():
        raise UsageError(
            f"no kernel of yours has the id '{name}' here", next_command="dunelab kernels"
        )
    return Path(remembered.read_text(encoding="utf-8").strip())


def own_entry(cache: Cache, name: str) -> KernelEntry:
    """Such a kernel as an entry of the matrix."""
    found = look_at(_path_of(cache, name))
    return KernelEntry(name, "", FLAVOUR, None, found.release)


def open_own(cache: Cache, name: str) -> Kernel:
    """The kernel of an id, as it is at its path now."""
    return open_at(cache, name, _path_of(cache, name))


def open_at(cache: Cache, name: str, path: Path) -> Kernel:
    """The kernel at a path under an id; the links that the builder needs are in the cache."""
    found = look_at(path)
    folder = _folder(cache, name)
    headers = folder / "headers"
    # The builder mounts what these lead to.
    _link(headers / "src", {f"linux-headers-{found.release}": found.tree}, found.others)
    _link(headers / "lib", {}, found.kbuild)
    files = (
        found.vmlinuz,
        found.tree / "Module.symvers",
        found.tree / ".config",
        found.modules / "modules.builtin",
    )
    packages = [
        Package(file.name, found.release, sha256_file(file), file.stat().st_size, str(file))
        for file in files
    ]
    listing = _listing(found.modules)
    digest = hashlib.sha256(listing.encode()).hexdigest()
    packages.append(Package("modules", found.release, digest, len(listing), str(found.modules)))
    return Kernel(
        id=name,
        release=found.release,
        record=Record(name, found.release, tuple(packages)),
        vmlinuz=found.vmlinuz,
        modules=found.modules,
        headers=headers,
    )


def _link(folder: Path, named: dict[str, Path], others: tuple[Path, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {**named, **{path.name: path for path in others}}
    for link in folder.iterdir():
        if link.name not in wanted:
            link.unlink()
    for name, target in wanted.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)


def _listing(modules: Path) -> str:
    """Names, sizes and times of all modules: reading gigabytes at each use would take too long."""
    lines = []
    for path in sorted(modules.rglob("*.ko*")):
        stat = path.stat()
        lines.append(f"{path.relative_to(modules)} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(lines)
