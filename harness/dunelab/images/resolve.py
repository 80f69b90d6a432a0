# SPDX-License-Identifier: MIT
"""Which exact packages a recipe means, looked up once and then recorded.

The records in ``<cache>/resolved/`` are what makes the second run work
without a network and two machines comparable: name, version, checksum and
place in the archive of every file.  Each is filed under what was asked for, so
that two working trees with different recipes keep their own.  They are renewed
when ``dunelab kernels --refresh`` asks for it, never by the clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.images import debian
from dunelab.images.archive import Archive, Package
from dunelab.images.cache import Cache, file_lock, write_atomically
from dunelab.images.digest import Digest
from dunelab.images.kernels import KernelEntry

_SCHEMA = 1
_RESOLVE_SECONDS = 600.0
# Of a digest, in a file's name: legible, and one in 2^64 for a mistake.
_SPEC_DIGITS = 16


@dataclass(frozen=True)
class Record:
    """What one recipe resolved to; ``label`` is the kernel release, where there is one."""

    spec: str
    label: str
    packages: tuple[Package, ...]

    def digest(self, purpose: str) -> Digest:
        """A digest that starts with every package's checksum."""
        digest = Digest(purpose).text("label", self.label)
        return digest.texts("packages", [package.sha256 for package in self.packages])

    def to_json(self) -> str:
        """As stored."""
        return json.dumps({"schema": _SCHEMA, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Record | None:
        """As read back; None when it is not of this program's making."""
        try:
            data = json.loads(text)
            if data["schema"] != _SCHEMA:
                return None
            packages = tuple(Package(**fields) for fields in data["packages"])
            return cls(data["spec"], data["label"], packages)
        except (ValueError, KeyError, TypeError):
            return None


class Resolver:
    """Looks recipes up in the archive, or in the records."""

    def __init__(
        self, cache: Cache, progress: Callable[[str], None], *, refresh: bool = False
    ) -> None:
        self._cache = cache
        self._progress = progress
        self._refresh = refresh
        self._archives: dict[str, Archive] = {}
        self._fresh: set[str] = set()

    def archive(self, suite: str) -> Archive:
        """The archive of a suite."""
        if suite not in self._archives:
            self._archives[suite] = Archive(self._cache, suite)
        return self._archives[suite]

    def packages(self, key: str, suite: str, names: Sequence[str]) -> Record:
        """The newest version of each named package."""
        spec = Digest("packages").text("suite", suite).texts("names", names).hex()

        def look_up(archive: Archive) -> Record:
            return Record(spec, suite, tuple(archive.package(name) for name in names))

        return self._record(key, spec, suite, look_up)

    def source(self, key: str, suite: str, source: str, upstream: str) -> Record:
        """The upstream archive of a source package."""
        spec = Digest("source").texts("spec", [suite, source, upstream]).hex()

        def look_up(archive: Archive) -> Record:
            return Record(spec, upstream, (archive.source_file(source, upstream),))

        return self._record(key, spec, suite, look_up)

    def kernel(self, entry: KernelEntry) -> Record:
        """Image, headers and build tools of one kernel; the label is its release."""
        spec = kernel_spec(entry)

        def look_up(archive: Archive) -> Record:
            release = newest_release(archive, entry)
            names = kernel_packages(archive.control, release)
            return Record(spec, release, tuple(archive.package(name) for name in names))

        return self._record(f"kernel-{entry.id}", spec, entry.suite, look_up)

    def recorded_kernel(self, entry: KernelEntry) -> Record | None:
        """What is on record of a kernel, without looking anything up."""
        return self._recorded(f"kernel-{entry.id}", kernel_spec(entry))

    def _recorded(self, key: str, spec: str) -> Record | None:
        path = self._path(key, spec)
        known = Record.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None
        return known if known is not None and known.spec == spec else None

    def _path(self, key: str, spec: str) -> Path:
        return self._cache.root / "resolved" / f"{key}-{spec[:_SPEC_DIGITS]}.json"

    def _record(
        self, key: str, spec: str, suite: str, look_up: Callable[[Archive], Record]
    ) -> Record:
        deadline = Deadline.after(_RESOLVE_SECONDS, f"turn to resolve {key}")
        with file_lock(self._cache.lock_path(f"resolve-{key}"), deadline):
            known = self._recorded(key, spec)
            if known is not None and not self._wants(key):
                return known
            archive = self.archive(suite)
            if suite not in self._fresh:
                self._progress(f"package index of Debian {suite}")
                archive.update()
                self._fresh.add(suite)
            record = look_up(archive)
            write_atomically(self._path(key, spec), record.to_json())
            self._fresh.add(f"key {key}")
            return record

    def _wants(self, key: str) -> bool:
        return self._refresh and f"key {key}" not in self._fresh


def kernel_spec(entry: KernelEntry) -> str:
    """What is asked for with an entry of the matrix."""
    words = [entry.suite, entry.series or "", entry.release or "", entry.flavour]
    return Digest("kernel").texts("spec", words).hex()


class Index(Protocol):
    """What is asked of a suite's package index."""

    def names(self, prefix: str) -> list[str]: ...

    def package(self, name: str) -> Package: ...


def newest_release(archive: Index, entry: KernelEntry) -> str:
    """The kernel release of an entry: the newest of its series that has headers."""
    prefix = "linux-headers-"
    if entry.release is not None:
        return f"{entry.release}-{entry.flavour}"
    releases = releases_of(
        archive.names(f"{prefix}{entry.series}"), str(entry.series), entry.flavour
    )
    if not releases:
        raise InfrastructureError(
            f"no kernel with headers for {entry.wanted}",
            next_command="dunelab kernels --refresh",
        )
    versions = {release: archive.package(prefix + release).version for release in releases}
    return max(releases, key=lambda release: debian.version_key(versions[release]))


def releases_of(names: Sequence[str], series: str, flavour: str) -> list[str]:
    """The releases among header package names that are of this series and exactly this flavour."""
    found = []
    for name in names:
        release = name.removeprefix("linux-headers-")
        version = release.removesuffix(f"-{flavour}")
        # A release candidate has the series for a name, "7.3"; others go on with a point.
        if version == release or not (version == series or version.startswith(f"{series}.")):
            continue
        # What remains is "6.12.107+deb13" or "6.1.0-50"; "-cloud" and "-rt" are other flavours.
        if any(part.isalpha() for part in version.split("-")[1:]):
            continue
        found.append(release)
    return found


def kernel_packages(control: Callable[[str], dict[str, str]], release: str) -> list[str]:
    """Names of the packages that hold a kernel, its modules, its headers and kbuild.

    Newer kernels split the image into linux-base, linux-binary and linux-modules; whatever
    of that family a package depends on comes along.
    """
    families = (
        "linux-base-",
        "linux-image-",
        "linux-binary-",
        "linux-modules-",
        "linux-headers-",
        "linux-kbuild-",
    )
    pending = [f"linux-image-{release}", f"linux-headers-{release}"]
    names: list[str] = []
    while pending:
        name = pending.pop(0)
        if name in names:
            continue
        names.append(name)
        for alternatives in debian.dependency_names(control(name).get("Depends", "")):
            wanted = alternatives[0]
            if wanted.startswith(families) and "-unsigned" not in wanted:
                pending.append(wanted)
    return names
