# SPDX-License-Identifier: MIT
"""The content-addressed cache all images live in.

Layout below the root::

    <kind>/<digest>/...            one finished entry, never changed again
    <kind>/<digest>/.manifest.json sha256 and size of each of its files, and the ctime
                                   at which it was last found to have them
    <kind>/.tmp-<digest>-...       an entry being made; renamed when complete
    locks/<kind>-<digest>.lock     flock: exclusive while making or pruning,
                                   shared for as long as a process uses the entry
    logs/                          what compilers and recipes printed
    resolved/                      which packages each recipe resolved to

An entry appears by one ``os.replace`` of a complete directory, so a reader
sees all of it or nothing.  Several processes may ask for the same entry at
once: one makes it, the others wait for its lock and then find it made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.images.digest import sha256_file

MANIFEST = ".manifest.json"
# Entries up to this size have every checksum verified when first used by a
# process; larger ones (builder root, headers) only have their files' sizes checked.
VERIFY_LIMIT_BYTES = 64 << 20
# A file that changes within one tick of its file system's clock keeps its ctime.
_SETTLED_SECONDS = 2.0
_POLL_SECONDS = 0.2
_MAKE_SECONDS = 1800.0


def default_root() -> Path:
    """``$XDG_CACHE_HOME/dunelab``, by default ``~/.cache/dunelab``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path is invalid and must be ignored.
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return home / "dunelab"


@dataclass(frozen=True)
class Entry:
    """One entry, as ``prune`` and ``dunelab build`` list it."""

    kind: str
    digest: str
    path: Path
    size: int
    used: float


@dataclass(frozen=True)
class PruneReport:
    """What a prune removed, and what it left because a process uses it."""

    removed: tuple[Entry, ...]
    busy: tuple[Entry, ...]
    kept: tuple[Entry, ...]

    @property
    def freed(self) -> int:
        """Bytes given back."""
        return sum(entry.size for entry in self.removed)


class LockHandle:
    """An open lock file; closing it gives the lock up."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.path = path

    def acquire(self, operation: int, deadline: Deadline) -> None:
        """Wait for ``fcntl.LOCK_SH`` or ``LOCK_EX``."""
        while not self.attempt(operation):
            deadline.check()
            time.sleep(min(_POLL_SECONDS, deadline.remaining()))

    def attempt(self, operation: int) -> bool:
        """Try once, without waiting."""
        try:
            fcntl.flock(self._fd, operation | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EINTR):
                return False
            raise
        return True

    def close(self) -> None:
        """Release; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


@contextlib.contextmanager
def file_lock(path: Path, deadline: Deadline) -> Iterator[None]:
    """Hold ``path`` exclusively; other processes wait for it."""
    handle = LockHandle(path)
    try:
        handle.acquire(fcntl.LOCK_EX, deadline)
        yield
    finally:
        handle.close()


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a small file so that a reader sees the old or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_tree(path: Path) -> None:
    """Delete a directory tree, also where it holds read-only directories."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for folder, names, _ in os.walk(path):
        mode = stat.S_IMODE(os.lstat(folder).st_mode)
        if mode & 0o700 != 0o700:
            Path(folder).chmod(mode | 0o700)
        for name in names:
            child = Path(folder) / name
            child_mode = stat.S_IMODE(os.lstat(child).st_mode)
            if not child.is_symlink() and child_mode & 0o700 != 0o700:
                child.chmod(child_mode | 0o700)
    shutil.rmtree(path)


class Cache:
    """A cache root, and the shared locks this process holds on what it uses."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or default_root()
        self._held: dict[tuple[str, str], LockHandle] = {}

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let a prune have the entries this object has handed out."""
        while self._held:
            _, handle = self._held.popitem()
            handle.close()

    @property
    def logs(self) -> Path:
        """Where build logs are kept as evidence."""
        folder = self.root / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def path(self, kind: str, digest: str) -> Path:
        """Where an entry is, or would be."""
        return self.root / kind / digest

    def lock_path(self, name: str) -> Path:
        """The lock file of a name inside this cache."""
        return self.root / "locks" / f"{name}.lock"

    def has(self, kind: str, digest: str) -> bool:
        """Whether a complete entry is there; its checksums are not looked at."""
        return (self.path(kind, digest) / MANIFEST).is_file()

    def get_or_make(
        self,
        kind: str,
        digest: str,
        make: Callable[[Path], None],
        deadline: Deadline | None = None,
    ) -> Path:
        """The entry's directory, made by ``make(directory)`` if it is not there.

        ``make`` fills a temporary directory on the same file system.  When it
        raises, nothing of it remains.  An entry whose checksums no longer
        match is thrown away and made again.
        """
        final = self.path(kind, digest)
        if (kind, digest) in self._held and self.has(kind, digest):
            return final
        limit = deadline or Deadline.after(_MAKE_SECONDS, f"turn to make {kind} {digest[:12]}")
        handle = LockHandle(self.lock_path(f"{kind}-{digest}"))
        try:
            while not (handle.attempt(fcntl.LOCK_SH) and _intact(final)):
                # Both questions each time: who made the entry keeps it shared
                # for as long as it lives, and an exclusive lock never comes.
                if handle.attempt(fcntl.LOCK_EX):
                    if not _intact(final):
                        self._make(kind, digest, make)
                else:
                    limit.check()
                    time.sleep(min(_POLL_SECONDS, limit.remaining()))
            os.utime(final / MANIFEST)
        except FileNotFoundError as error:
            handle.close()
            raise InfrastructureError(
                f"cache entry {kind}/{digest[:12]} vanished while it was opened: {error}",
                evidence=final,
                next_command="run the same command again",
            ) from error
        except BaseException:
            handle.close()
            raise
        self._held[(kind, digest)] = handle
        return final

    def _make(self, kind: str, digest: str, make: Callable[[Path], None]) -> None:
        parent = self.root / kind
        parent.mkdir(parents=True, exist_ok=True)
        # The exclusive lock is held: any such leftover is a killed process's.
        for leftover in parent.glob(f".tmp-{digest}-*"):
            remove_tree(leftover)
        final = self.path(kind, digest)
        if final.exists():
            remove_tree(final)
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{digest}-", dir=parent))
        try:
            make(temporary)
            _write_manifest(temporary)
            temporary.chmod(0o755)
            temporary.replace(final)
        except BaseException:
            remove_tree(temporary)
            raise

    def entries(self) -> list[Entry]:
        """Every complete entry, the longest unused first."""
        found: list[Entry] = []
        for manifest in self.root.glob(f"*/*/{MANIFEST}"):
            folder = manifest.parent
            with contextlib.suppress(FileNotFoundError):
                recorded = json.loads(manifest.read_text(encoding="utf-8"))
                found.append(
                    Entry(
                        kind=folder.parent.name,
                        digest=folder.name,
                        path=folder,
                        size=int(recorded["size"]),
                        used=manifest.stat().st_mtime,
                    )
                )
        return sorted(found, key=lambda entry: (entry.used, entry.kind, entry.digest))

    def prune(
        self,
        *,
        keep_days: float | None = None,
        keep_bytes: int | None = None,
        now: float | None = None,
        dry_run: bool = False,
    ) -> PruneReport:
        """Remove what was not used for ``keep_days``, then the oldest down to ``keep_bytes``.

        Entries that any process has open are left, and reported as busy.
        """
        instant = time.time() if now is None else now
        removed: list[Entry] = []
        busy: list[Entry] = []
        kept: list[Entry] = []
        entries = self.entries()
        total = sum(entry.size for entry in entries)
        for entry in entries:
            old = keep_days is not None and instant - entry.used > keep_days * 86400
            large = keep_bytes is not None and total > keep_bytes
            if not (old or large):
                kept.append(entry)
            elif self._remove(entry, dry_run):
                removed.append(entry)
                total -= entry.size
            else:
                busy.append(entry)
        if not dry_run:
            self._sweep_leftovers()
        return PruneReport(tuple(removed), tuple(busy), tuple(kept))

    def _remove(self, entry: Entry, dry_run: bool) -> bool:
        handle = LockHandle(self.lock_path(f"{entry.kind}-{entry.digest}"))
        try:
            if not handle.attempt(fcntl.LOCK_EX):
                return False
            if not dry_run and entry.path.exists():
                # Renamed first: a kill half-way leaves a leftover, not half an entry.
                doomed = entry.path.with_name(f".tmp-{entry.digest}-pruned-{os.getpid()}")
                entry.path.replace(doomed)
                remove_tree(doomed)
            return True
        finally:
            handle.close()

    def _sweep_leftovers(self) -> None:
        for leftover in self.root.glob("*/.tmp-*"):
            digest = leftover.name.split("-")[1]
            handle = LockHandle(self.lock_path(f"{leftover.parent.name}-{digest}"))
            try:
                if handle.attempt(fcntl.LOCK_EX) and leftover.exists():
                    remove_tree(leftover)
            finally:
                handle.close()


def _regular_files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink() and path.is_file():
                yield path


def _write_manifest(root: Path) -> None:
    files: dict[str, dict[str, str | int]] = {}
    total = 0
    for path in sorted(_regular_files(root)):
        size = path.stat().st_size
        total += size
        files[path.relative_to(root).as_posix()] = {"sha256": sha256_file(path), "size": size}
    write_atomically(
        root / MANIFEST, json.dumps({"schema": 1, "size": total, "files": files}, indent=1)
    )


def _intact(root: Path) -> bool:
    """Whether a finished entry is there and is what its manifest says.

    What was hashed once is not hashed again while its ctime, which no program can set,
    is the same: the manifest learns it.
    """
    try:
        recorded = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        thorough = int(recorded["size"]) <= VERIFY_LIMIT_BYTES
        learned = False
        for name, facts in recorded["files"].items():
            # os.path: an entry has thousands of files, and this is most of the time.
            status = os.stat(f"{root}/{name}")  # noqa: PTH116
            if status.st_size != facts["size"]:
                return False
            if not thorough or status.st_ctime_ns == facts.get("ctime_ns"):
                continue
            if sha256_file(root / name) != facts["sha256"]:
                return False
            if status.st_ctime <= time.time() - _SETTLED_SECONDS:
                facts["ctime_ns"] = status.st_ctime_ns
                learned = True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not a manifest this program has written.
        return False
    if learned:
        _replace_manifest(root, recorded)
    return True


def _replace_manifest(root: Path, recorded: object) -> None:
    """Beside the entry first: a kill half-way leaves a leftover, not a file in the entry."""
    temporary = root.with_name(f".tmp-{root.name}-manifest-{os.getpid()}-{threading.get_ident()}")
    temporary.write_text(json.dumps(recorded, indent=1), encoding="utf-8")
    temporary.replace(root / MANIFEST)
