# SPDX-License-Identifier: MIT
"""Bochs, built without its debugger; or, said aloud, the packaged one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, DunelabError, EngineUnavailable
from dunelab.images.archive import Archive
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.process import capture, run
from dunelab.images.recipes import BochsRecipe
from dunelab.images.resolve import Record

_BUILD_SECONDS = 1200.0
_PROBE_SECONDS = 30.0
_FORMAT = "2"

Origin = Literal["own", "package"]


@dataclass(frozen=True)
class BochsBuild:
    """An emulator that can be started.

    ``origin`` is "package" when the own build failed: then ``reason`` says
    why, and the emulator is about three times slower.
    """

    binary: Path
    share: Path
    version: str
    origin: Origin
    reason: str = ""


def open_bochs(
    cache: Cache,
    builder: Callable[[], Builder],
    archive: Archive,
    recipe: BochsRecipe,
    source: Record,
    share: Record,
    progress: Callable[[str], None],
) -> BochsBuild:
    """The own build from the cache; where it cannot be made, the packaged Bochs."""
    try:
        return own_build(cache, builder, archive, recipe, source, share, progress)
    except DunelabError as error:
        packaged = packaged_build(error)
        progress(f"Bochs could not be built ({error.what}); using {packaged.binary}")
        return packaged


def own_build(
    cache: Cache,
    builder: Callable[[], Builder],
    archive: Archive,
    recipe: BochsRecipe,
    source: Record,
    share: Record,
    progress: Callable[[str], None],
) -> BochsBuild:
    """Build the emulator, or find it built."""
    root = builder()
    digest = (
        source.digest("bochs")
        .texts("share packages", [package.sha256 for package in share.packages])
        .text("format", _FORMAT)
        .text("builder", root.identity)
        .text("patch", recipe.patch.read_text(encoding="utf-8"))
        .texts("configure", recipe.configure)
        .texts("flags", [recipe.cflags, recipe.ldflags])
        .texts("share", [word for pair in recipe.share for word in pair])
        .hex()
    )
    log = cache.logs / f"bochs-{digest[:12]}.log"

    def make(folder: Path) -> None:
        progress("Bochs: building (about a minute)")
        log.unlink(missing_ok=True)
        _compile(root, archive, recipe, source, folder, log)
        for deb in archive.fetch(share.packages).values():
            unpack(deb, folder / "scratch/share", log)
        (folder / "share").mkdir()
        for name, path in recipe.share:
            shutil.copy(folder / "scratch/share" / path, folder / "share" / name)
        shutil.rmtree(folder / "scratch")

    entry = cache.get_or_make("bochs", digest, make)
    binary = entry / "bochs"
    return BochsBuild(binary, entry / "share", read_version(binary), "own")


def _compile(
    root: Builder, archive: Archive, recipe: BochsRecipe, source: Record, folder: Path, log: Path
) -> None:
    scratch = folder / "scratch"
    tree = scratch / "tree"
    tree.mkdir(parents=True)
    tarball = next(iter(archive.fetch(source.packages).values()))
    deadline = Deadline.after(_BUILD_SECONDS, "Bochs")
    run(
        [
            "tar",
            "-x",
            "-f",
            str(tarball),
            "-C",
            str(tree),
            "--strip-components=1",
            "--no-same-owner",
        ],
        log=log,
        deadline=deadline,
        what="unpacking the Bochs source",
    )

    run(
        ["git", "-C", str(tree), "apply", "-p1", str(recipe.patch.resolve())],
        log=log,
        deadline=deadline,
        what="patching Bochs",
    )

    def in_root(*argv: str, what: str) -> None:
        root.run(
            argv,
            binds={tree: f"{WORK}/bochs"},
            cwd=f"{WORK}/bochs",
            env={
                "CC": "gcc-14",
                "CXX": "g++-14",
                "CFLAGS": recipe.cflags,
                "CXXFLAGS": recipe.cflags,
            },
            log=log,
            deadline=deadline,
            what=what,
        )

    in_root("./configure", *recipe.configure, what="configuring Bochs")
    jobs = f"-j{os.cpu_count() or 1}"
    in_root("make", jobs, "bochs", f"LDFLAGS={recipe.ldflags}", what="compiling Bochs")
    in_root("strip", "bochs", what="stripping Bochs")
    shutil.move(tree / "bochs", folder / "bochs")


def packaged_build(cause: DunelabError) -> BochsBuild:
    """The Bochs this machine has installed, or an error that names both ways."""
    binary = shutil.which("bochs")
    share = Path("/usr/share/bochs")
    if binary is None or not (share / "BIOS-bochs-latest").is_file():
        raise EngineUnavailable(
            f"Bochs could not be built ({cause.what}) and is not installed either",
            evidence=cause.evidence,
            next_command="sudo apt-get install bochs bochs-term bochsbios vgabios",
        ) from cause
    return BochsBuild(Path(binary), share, read_version(Path(binary)), "package", cause.what)


def read_version(binary: Path) -> str:
    """The version in the banner; also proves that the binary runs on this host."""
    banner = capture(
        [str(binary), "--help", "cpu"],
        deadline=Deadline.after(_PROBE_SECONDS, "bochs --help"),
        what=f"{binary} --help cpu",
        env={"LC_ALL": "C", "PATH": os.defpath},
        with_errors=True,
    )
    if "corei7_skylake_x" not in banner:
        raise BuildFailed(f"{binary} does not offer the CPU model corei7_skylake_x")
    return parse_version(banner)


def parse_version(banner: str) -> str:
    """``Bochs x86 Emulator 3.0`` as ``3.0``."""
    for line in banner.splitlines():
        _, found, rest = line.partition("Bochs x86 Emulator ")
        if found and rest.strip():
            return rest.split()[0]
    raise BuildFailed(f"no version in the banner of Bochs: {banner[:200]!r}")
