# SPDX-License-Identifier: MIT
"""Kernels whose headers are gone and whose images are not: do they export what dune.ko needs?

Nothing can be built for them.  What is asked: of the symbols that the module imports when
it is built for the nearest kernels with headers, older and newer, which does such an
image not export to it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.images import debian
from dunelab.images.archive import Archive, Package
from dunelab.images.bzimage import take_apart
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.digest import Digest
from dunelab.images.exports import Drift, exports
from dunelab.images.kernel import find_vmlinuz
from dunelab.images.kernels import PLAIN, KernelEntry
from dunelab.images.resolve import Index

_FORMAT = "1"
_IMAGE = "linux-image-"
_FAMILIES = (_IMAGE, "linux-binary-")
_UNPACK_SECONDS = 120.0


@dataclass(frozen=True)
class Image:
    """The newest image of a series, and the packages that hold it."""

    series: str
    release: str
    packages: tuple[Package, ...]


@dataclass(frozen=True)
class Check:
    """A lost kernel against the module built for one that is not lost."""

    series: str
    release: str
    built_for: str
    drift: Drift


def newest_image(index: Index, control: Callable[[str], dict[str, str]], series: str) -> Image:
    """The newest plain kernel of a series that the index still has an image of."""
    names = [
        name
        for name in index.names(f"{_IMAGE}{series}.")
        if name.endswith(f"-{PLAIN}") and not name.endswith((f"cloud-{PLAIN}", f"rt-{PLAIN}"))
    ]
    if not names:
        raise InfrastructureError(f"no image of {series}", next_command="dunelab kernels --update")
    name = max(names, key=lambda name: debian.version_key(index.package(name).version))
    release = name.removeprefix(_IMAGE)
    wanted = [name]
    for alternatives in debian.dependency_names(control(name).get("Depends", "")):
        if alternatives[0].startswith(_FAMILIES) and "-unsigned" not in alternatives[0]:
            wanted.append(alternatives[0])
    return Image(series, release, tuple(index.package(word) for word in wanted))


def exports_of(cache: Cache, archive: Archive, image: Image) -> dict[str, str]:
    """The symbols of an image, from the cache once they have been read."""
    digest = Digest("exports").text("format", _FORMAT)
    digest.texts("packages", [package.sha256 for package in image.packages])
    log = cache.logs / f"exports-{image.release}.log"

    def make(folder: Path) -> None:
        scratch = folder / "scratch"
        for deb in archive.fetch(image.packages).values():
            unpack(deb, scratch, log)
        vmlinux = unpacked(find_vmlinuz(scratch, image.release).read_bytes(), image.release)
        (folder / "exports.json").write_text(json.dumps(exports(vmlinux)), encoding="utf-8")
        shutil.rmtree(scratch)

    made = cache.get_or_make("exports", digest.hex(), make)
    found: dict[str, str] = json.loads((made / "exports.json").read_text(encoding="utf-8"))
    return found


def unpacked(vmlinuz: bytes, release: str) -> bytes:
    """The vmlinux in a bzImage."""
    parts = take_apart(vmlinuz)
    if parts.unpacker is None:
        raise InfrastructureError(f"the kernel {release} is packed in a way not known here")
    deadline = Deadline.after(_UNPACK_SECONDS, f"unpacking of {release}")
    done = subprocess.run(
        [parts.unpacker, "-dc"],
        input=parts.payload,
        capture_output=True,
        timeout=deadline.remaining(),
        check=False,
    )
    if done.returncode != 0 or len(done.stdout) != parts.unpacked_size:
        raise InfrastructureError(
            f"the kernel {release} does not unpack: {done.stderr.decode(errors='replace').strip()}"
        )
    return done.stdout


def neighbours(entries: Sequence[KernelEntry], series: str) -> tuple[KernelEntry, ...]:
    """The nearest plain kernels of the matrix, one older than a series and one newer."""
    version = tuple(int(part) for part in series.split("."))
    plain = [entry for entry in entries if entry.flavour == PLAIN]
    older = [entry for entry in plain if entry.version < version]
    newer = [entry for entry in plain if entry.version > version]
    found = []
    if older:
        best = max(entry.version for entry in older)
        found.append(next(entry for entry in older if entry.version == best))
    if newer:
        best = min(entry.version for entry in newer)
        found.append(next(entry for entry in newer if entry.version == best))
    return tuple(found)
