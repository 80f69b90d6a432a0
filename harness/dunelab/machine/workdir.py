# SPDX-License-Identifier: MIT
"""Private folders of running machines: removed after success, kept after failure.

A folder names its owner (process id and start time, so that a reused id is no
owner).  Folders of dead owners were left by ``kill -9`` and are swept by the
next run; those kept on purpose as evidence carry a marker and stay.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_OWNER = ".owner"
_KEPT = ".kept"


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
    (folder / _OWNER).write_text(_identity(os.getpid()))
    return folder


def keep(folder: Path) -> None:
    """Mark ``folder`` as evidence: no sweep removes it."""
    if folder.is_dir():
        (folder / _KEPT).touch()


def remove(folder: Path) -> None:
    """Remove a machine's folder, unless it was kept."""
    if not (folder / _KEPT).exists():
        shutil.rmtree(folder, ignore_errors=True)


def sweep(root: Path) -> list[Path]:
    """Remove folders whose owner is dead; returns them."""
    swept = []
    for owner in root.glob(f"*/{_OWNER}"):
        folder = owner.parent
        if (folder / _KEPT).exists():
            continue
        try:
            identity = owner.read_text()
        except OSError:
            continue  # another process sweeps at the same time
        if identity != _identity(int(identity.split()[0]) if identity.strip() else 0):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


def _identity(pid: int) -> str:
    """Process id and start time; only the id when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return f"{pid} gone"
    # Field 22, counted after the command name, which may contain anything.
    return f"{pid} {stat.rpartition(')')[2].split()[19]}"
