# SPDX-License-Identifier: MIT
"""Private folders of running machines: removed after success, kept after failure.

A folder names its owner (process id and start time, so that a reused id is no
owner, and the namespace that the id is one of).  Folders of dead owners were left
by ``kill -9`` and are swept by the next run; those kept on purpose as evidence
carry a marker and stay for a week.  Of an owner in another namespace, a container
that shares the folder, nobody here can tell whether it lives: it gets a week too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

_OWNER = ".owner"
_KEPT = ".kept"
_WORDS = 3
_EVIDENCE_SECONDS = 7 * 86400.0


def base_folder() -> Path:
    """Where this user's machine folders live: the runtime folder or the temporary one."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "dunelab"
    return Path(tempfile.gettempdir()) / f"dunelab-{os.getuid()}"


def create(name: str, base: Path | None = None) -> Path:
    """A new private folder for one machine.  Sweeps what dead owners left."""
    root = base or base_folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        root = Path(tempfile.mkdtemp(prefix="dunelab-"))
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))
    # Renamed into place: a sweep by another process sees a whole owner or none.
    draft = folder / f"{_OWNER}.draft"
    draft.write_text(f"{_identity(os.getpid())} {_namespace()}")
    draft.replace(folder / _OWNER)
    return folder


def keep(folder: Path) -> None:
    """Mark ``folder`` as evidence: it outlives its owner."""
    if folder.is_dir():
        (folder / _KEPT).touch()


def remove(folder: Path) -> None:
    """Remove a machine's folder, unless it was kept."""
    if not (folder / _KEPT).exists():
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Remove folders whose owner is dead, and old evidence; returns them."""
    swept = []
    for owner in root.glob(f"*/{_OWNER}"):
        if _abandoned(owner):
            shutil.rmtree(owner.parent, ignore_errors=True)
            swept.append(owner.parent)
    return swept


def _abandoned(owner: Path) -> bool:
    kept = owner.with_name(_KEPT)
    try:
        if kept.exists():
            return _is_old(kept)
        words = owner.read_text().split()
        if len(words) != _WORDS:
            # Half written by who lives, or in the words of another version.
            return bool(words) and _is_old(owner)
        pid, started, namespace = words
        if namespace != _namespace():
            return _is_old(owner)
    except OSError:
        return False  # another process sweeps at the same time
    return pid.isdecimal() and f"{pid} {started}" != _identity(int(pid))


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > _EVIDENCE_SECONDS


def _namespace() -> str:
    """The namespace that this process's ids are ids of."""
    return str(Path("/proc/self/ns/pid").readlink())


def _identity(pid: int) -> str:
    """Process id and start time; only the id when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{pid} gone"
    # Field 22, counted after the command name, which may contain anything.
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"
