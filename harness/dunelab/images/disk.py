# SPDX-License-Identifier: MIT
"""The full guest's root: a Debian root packed into a read-only squashfs.

mmdebstrap makes the root and squashfs-tools of the builder pack its archive
without unpacking it, so owners and modes are right whoever builds.
"""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed
from dunelab.images import debian, mmdebstrap
from dunelab.images.archive import Archive, download_options
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import sha256_file
from dunelab.images.process import run
from dunelab.images.recipes import FullRecipe
from dunelab.images.resolve import Record

STAMP = "etc/dunelab/disk"
"""The file by which a disk and an initramfs know that they belong together."""

GUEST_FILES = "/opt/dunelab"
"""Where the files beside the recipe are in the guest."""

_FORMAT = "1"
_ROOT_SECONDS = 1500.0
_PACK_SECONDS = 900.0
_CUSTOMIZE = "customize"
_STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True)
class RootDisk:
    """``identity`` is the checksum of what is on the disk, ``stamp`` names its inputs.

    The two differ because dependencies are resolved when the disk is made.
    """

    path: Path
    stamp: str
    identity: str
    packages: Path


def root_disk(
    cache: Cache,
    builder: Callable[[], Builder],
    archive: Archive,
    recipe: FullRecipe,
    record: Record,
    progress: Callable[[str], None],
) -> RootDisk:
    """The disk from the cache, made if it is not there."""
    stamp = stamp_of(recipe, record)

    def make(folder: Path) -> None:
        log = cache.logs / f"root-disk-{stamp[:12]}.log"
        log.unlink(missing_ok=True)
        progress("full guest: installing packages (about a minute)")
        tar = folder / "root.tar"
        run(
            mmdebstrap.argv(
                mmdebstrap.require(),
                suite=recipe.suite,
                mirror=archive.mirror,
                packages=recipe.packages,
                exclude=recipe.exclude,
                options=download_options(),
                output=str(tar),
                hooks=hooks(recipe.files, stamp),
            ),
            log=log,
            deadline=Deadline.after(_ROOT_SECONDS, "full guest root"),
            what="making the full guest's root",
        )
        (folder / "packages.txt").write_text(package_list(_read_status(tar)), encoding="utf-8")
        progress("full guest: packing the disk")
        builder().run(
            ["sh", "-c", pack_command(recipe.compression)],
            binds={folder: f"{WORK}/out"},
            log=log,
            deadline=Deadline.after(_PACK_SECONDS, "full guest disk"),
            what="packing the full guest's disk",
        )
        tar.unlink()
        (folder / "identity").write_text(sha256_file(folder / "root.squashfs"), encoding="utf-8")

    entry = cache.get_or_make("root-disk", stamp, make)
    identity = (entry / "identity").read_text(encoding="utf-8")
    return RootDisk(entry / "root.squashfs", stamp, identity, entry / "packages.txt")


def stamp_of(recipe: FullRecipe, record: Record) -> str:
    """The digest of all that a disk is made from, as far as it is known beforehand."""
    return (
        record.digest("root disk")
        .text("format", _FORMAT)
        .text("suite", recipe.suite)
        .texts("exclude", recipe.exclude)
        .texts("compression", recipe.compression)
        .tree("files", recipe.files)
        .hex()
    )


def hooks(files: Path, stamp: str) -> list[str]:
    """What mmdebstrap does when the packages are in: files, stamp, customize script."""
    others = sorted(path for path in files.iterdir() if path.name != _CUSTOMIZE)
    folders = f"{GUEST_FILES.strip('/')} {Path(STAMP).parent}"
    return [
        f'cd "$1" && mkdir -p {folders}',
        *(mmdebstrap.upload(path, f"{GUEST_FILES}/{path.name}") for path in others),
        f'echo {stamp} >"$1/{STAMP}"',
        # As text, not as a path: in the namespace of an ordinary user the
        # clone may lie in a home directory that cannot be entered.
        (files / _CUSTOMIZE).read_text(encoding="utf-8"),
    ]


def pack_command(compression: tuple[str, ...]) -> str:
    """The shell text that turns /work/out/root.tar into /work/out/root.squashfs."""
    options = shlex.join([*compression, "-quiet", "-no-progress", "-exit-on-error"])
    # With the builder's SOURCE_DATE_EPOCH every file would date from 1970, and
    # Python would compile each module again because its source has changed.
    return (
        f"exec env -u SOURCE_DATE_EPOCH sqfstar {options} "
        f"{WORK}/out/root.squashfs <{WORK}/out/root.tar"
    )


def _read_status(tar: Path) -> str:
    with tarfile.open(tar) as archive:
        for member in archive:
            if member.name.removeprefix("./") == _STATUS:
                stream = archive.extractfile(member)
                if stream is not None:
                    return stream.read().decode("utf-8", "replace")
    raise BuildFailed(f"no {_STATUS} in the full guest's root", evidence=tar)


def package_list(status: str) -> str:
    """Every package of a dpkg status with version and installed KiB, the largest first."""
    found = [
        (int(fields.get("Installed-Size", "0")), fields["Package"], fields["Version"])
        for fields in debian.paragraphs(status)
        if fields.get("Status", "").endswith(" installed")
    ]
    lines = [f"{size:>8} {name} {version}\n" for size, name, version in sorted(found, reverse=True)]
    return "".join(lines)
