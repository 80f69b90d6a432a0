# SPDX-License-Identifier: MIT
"""The Debian archive, reached through the machine's own apt.

No address of an archive stands in this tree.  The one used is, in this order:
what this machine's apt has configured for the Debian archive, else (on an
Ubuntu host, say) what mmdebstrap uses when it is told no mirror.  Indexes of
suites the machine itself does not use live in a private apt state inside the
cache; the machine's apt configuration is not touched.  apt checks the index's
signature against the Debian archive keyring and each file's SHA-256 against
the index.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.images import debian
from dunelab.images.cache import Cache, file_lock, write_atomically
from dunelab.images.digest import sha256_file
from dunelab.images.process import capture, run

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT_HELPER = "/usr/lib/apt/apt-helper"
_UPDATE_SECONDS = 300.0
_QUERY_SECONDS = 60.0
_FETCH_SECONDS = 600.0
_REFRESH = "dunelab kernels --refresh"


@dataclass(frozen=True)
class Package:
    """One file of the archive, named by its checksum."""

    name: str
    version: str
    sha256: str
    size: int
    filename: str


class Archive:
    """Queries and downloads for one Debian suite."""

    def __init__(self, cache: Cache, suite: str) -> None:
        self._cache = cache
        self.suite = suite
        self._mirror: str | None = None
        self._state = cache.root / "apt" / suite

    # -- configuration -------------------------------------------------------

    @property
    def mirror(self) -> str:
        """The archive's base address, from apt's or mmdebstrap's configuration."""
        if self._mirror is None:
            self._mirror = host_mirror() or mmdebstrap_mirror(self._cache, self.suite)
        return self._mirror

    def _config(self) -> Path:
        """A private apt configuration; of the host's only the download options are kept."""
        if not KEYRING.is_file():
            raise InfrastructureError(
                f"{KEYRING} is missing, so no package could be trusted",
                next_command="sudo apt-get install debian-archive-keyring",
            )
        for folder in ("lists/partial", "archives/partial", "empty"):
            (self._state / folder).mkdir(parents=True, exist_ok=True)
        status = self._state / "status"
        if not status.exists():
            write_atomically(status, "")
        sources = "".join(
            f"{kind} [signed-by={KEYRING}] {self.mirror} {self.suite} main\n"
            for kind in ("deb", "deb-src")
        )
        write_atomically(self._state / "sources.list", sources)
        lines = [
            f'Dir::State "{self._state}";',
            f'Dir::State::status "{status}";',
            f'Dir::State::lists "{self._state / "lists"}";',
            f'Dir::Cache "{self._state}";',
            f'Dir::Etc::sourcelist "{self._state / "sources.list"}";',
            f'Dir::Etc::sourceparts "{self._state / "empty"}";',
            f'Dir::Etc::parts "{self._state / "empty"}";',
            f'Dir::Etc::preferencesparts "{self._state / "empty"}";',
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::preferences "/dev/null";',
            'APT::Architecture "amd64";',
            'APT::Architectures { "amd64"; };',
            # The cache may lie in a home directory that apt's own user cannot enter.
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            # Two suites' indexes are 300 MB unpacked.
            'Acquire::GzipIndexes "true";',
            'Dir::Cache::srcpkgcache "";',
            *download_options(),
        ]
        config = self._state / "apt.conf"
        write_atomically(config, "\n".join(lines) + "\n")
        return config

    def _env(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._config()), "LC_ALL": "C.UTF-8"}

    # -- the index -----------------------------------------------------------

    def update(self) -> None:
        """Download the suite's index."""
        deadline = Deadline.after(_UPDATE_SECONDS, f"package index of {self.suite}")
        log = self._cache.logs / f"apt-update-{self.suite}.log"
        with file_lock(self._cache.lock_path(f"apt-{self.suite}"), deadline):
            log.unlink(missing_ok=True)
            run(
                ["apt-get", "update", "--error-on=any"],
                log=log,
                deadline=deadline,
                what=f"apt-get update for {self.suite}",
                env=self._env(),
                next_command="check that apt-get update works on this machine, then run again",
            )

    def names(self, prefix: str) -> list[str]:
        """Package names of the index that start with ``prefix``."""
        output = capture(
            ["apt-cache", "pkgnames", prefix],
            deadline=Deadline.after(_QUERY_SECONDS, "apt-cache pkgnames"),
            what="apt-cache pkgnames",
            env=self._env(),
        )
        return sorted(output.split())

    def control(self, name: str) -> dict[str, str]:
        """The control paragraph of the newest version of a package."""
        output = capture(
            ["apt-cache", "show", "--", name],
            deadline=Deadline.after(_QUERY_SECONDS, "apt-cache show"),
            what=f"looking up package {name} in {self.suite}",
            env=self._env(),
            next_command=_REFRESH,
        )
        found = list(debian.paragraphs(output))
        if not found:
            raise InfrastructureError(f"no package {name} in {self.suite}", next_command=_REFRESH)
        return max(found, key=lambda fields: debian.version_key(fields["Version"]))

    def package(self, name: str) -> Package:
        """The newest version of a package."""
        return package_of(self.control(name))

    def source_file(self, source: str, upstream: str) -> Package:
        """The ``.orig.tar`` of a source package whose upstream version starts so."""
        output = capture(
            ["apt-cache", "showsrc", "--only-source", "--", source],
            deadline=Deadline.after(_QUERY_SECONDS, "apt-cache showsrc"),
            what=f"looking up source package {source} in {self.suite}",
            env=self._env(),
            next_command=_REFRESH,
        )
        return pick_source(list(debian.paragraphs(output)), source, upstream, self.suite)

    # -- downloads -----------------------------------------------------------

    def fetch(self, packages: Sequence[Package]) -> dict[Package, Path]:
        """Each package as a local file, from the cache or else from the archive."""
        paths: dict[Package, Path] = {}
        for package in packages:

            def download(folder: Path, package: Package = package) -> None:
                self._download(package, folder / Path(package.filename).name)

            folder = self._cache.get_or_make("packages", package.sha256, download)
            paths[package] = folder / Path(package.filename).name
        return paths

    def _download(self, package: Package, target: Path) -> None:
        log = self._cache.logs / f"fetch-{package.name}-{package.sha256[:12]}.log"
        # '+' and friends quoted, as apt does: some archives' storage needs it.
        address = f"{self.mirror.rstrip('/')}/{quote(package.filename, safe='/~')}"
        run(
            [APT_HELPER, "download-file", address, str(target), f"SHA256:{package.sha256}"],
            log=log,
            deadline=Deadline.after(_FETCH_SECONDS, f"download of {package.name}"),
            what=f"download of {package.name} {package.version}",
            env=self._env(),
            next_command=f"{_REFRESH}   (the archive may hold a newer version only)",
        )
        actual = sha256_file(target)
        if actual != package.sha256:
            raise InfrastructureError(
                f"{package.name}: downloaded file has SHA-256 {actual}, not {package.sha256}",
                evidence=log,
                next_command=_REFRESH,
            )


def package_of(fields: dict[str, str]) -> Package:
    """A ``Package`` from its control paragraph."""
    return Package(
        name=fields["Package"],
        version=fields["Version"],
        sha256=fields["SHA256"],
        size=int(fields["Size"]),
        filename=fields["Filename"],
    )


def pick_source(found: list[dict[str, str]], source: str, upstream: str, suite: str) -> Package:
    """The newest fitting source paragraph's ``.orig.tar`` with its checksum."""
    fitting = [
        fields
        for fields in found
        if fields.get("Package") == source
        and re.match(rf"(\d+:)?{re.escape(upstream)}(?![.\d])", fields["Version"])
    ]
    if not fitting:
        offered = ", ".join(sorted(fields.get("Version", "?") for fields in found)) or "none"
        raise InfrastructureError(
            f"no source of {source} {upstream} in {suite} (offered: {offered})",
            next_command=_REFRESH,
        )
    fields = max(fitting, key=lambda item: debian.version_key(item["Version"]))
    for line in fields["Checksums-Sha256"].splitlines():
        words = line.split()
        if len(words) == 3 and re.search(r"\.orig\.tar\.\w+\Z", words[2]):
            return Package(
                name=source,
                version=fields["Version"],
                sha256=words[0],
                size=int(words[1]),
                filename=f"{fields['Directory']}/{words[2]}",
            )
    raise InfrastructureError(f"source package {source} {fields['Version']} has no .orig.tar")


def host_mirror() -> str | None:
    """The Debian archive this machine's apt is configured for, if it is."""
    listing = capture(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)\t$(LABEL)\t$(REPO_URI)"],
        deadline=Deadline.after(_QUERY_SECONDS, "apt-get indextargets"),
        what="apt-get indextargets",
    )
    return parse_mirror(listing)


def parse_mirror(listing: str) -> str | None:
    """The first archive that calls itself Debian, and not its security branch."""
    for line in listing.splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and fields[0] == "Debian" and fields[1] == "Debian":
            return fields[2]
    return None


def mmdebstrap_mirror(cache: Cache, suite: str) -> str:
    """What mmdebstrap itself uses for a suite when no mirror is given.

    mmdebstrap has no option that prints it.  It writes the new root's
    sources.list before its first hook, so the hook copies that file out and
    ends the run, before anything is downloaded.
    """
    log = cache.logs / f"mmdebstrap-mirror-{suite}.log"
    log.unlink(missing_ok=True)
    marker = "dunelab-sources: "
    hook = f"sed 's/^/{marker}/' \"$1/etc/apt/sources.list\" >&2; exit 1"
    deadline = Deadline.after(_QUERY_SECONDS, "mmdebstrap")
    try:
        run(
            ["mmdebstrap", "--variant=essential", f"--setup-hook={hook}", suite, "/dev/null"],
            log=log,
            deadline=deadline,
            what="asking mmdebstrap for its mirror",
        )
    except InfrastructureError as error:
        # The hook always ends the run with an error; what counts is the log.
        found = parse_sources(log.read_text(encoding="utf-8", errors="replace"), marker, suite)
        if found is None:
            raise InfrastructureError(
                f"neither apt nor mmdebstrap knows an archive for Debian {suite}: {error.what}",
                evidence=log,
            ) from error
        return found
    raise InfrastructureError("mmdebstrap ignored its setup hook", evidence=log)


def parse_sources(text: str, marker: str, suite: str) -> str | None:
    """The address in the marked ``deb`` line of exactly this suite."""
    for line in text.splitlines():
        if line.startswith(marker):
            words = re.sub(r"\[[^]]*\]", "", line.removeprefix(marker)).split()
            if len(words) >= 3 and words[0] == "deb" and words[2] == suite:
                return words[1]
    return None


def download_options() -> list[str]:
    """The host's proxies, certificates and retries, without its hooks and policies."""
    dump = capture(
        ["apt-config", "dump", "--no-empty"],
        deadline=Deadline.after(_QUERY_SECONDS, "apt-config dump"),
        what="apt-config dump",
    )
    wanted = re.compile(
        r"Acquire::(http|https|ftp|Retries|Check-Valid-Until|Check-Date|ForceIPv4|ForceIPv6|Queue-Mode)\b",
        re.IGNORECASE,
    )
    return [line for line in dump.splitlines() if wanted.match(line)]
