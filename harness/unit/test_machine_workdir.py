# SPDX-License-Identifier: MIT
"""Folders of machines: gone after success, there after failure, swept after kill -9."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dunelab.machine import workdir


def test_removed_unless_kept(tmp_path: Path) -> None:
    first, second = workdir.create("a", tmp_path), workdir.create("a", tmp_path)
    workdir.keep(second)
    for folder in (first, second):
        workdir.remove(folder)
    assert [first.exists(), second.exists()] == [False, True]


def test_a_living_owner_is_left_alone(tmp_path: Path) -> None:
    folder = workdir.create("a", tmp_path)
    assert workdir.sweep(tmp_path) == []
    assert folder.is_dir()


def test_a_dead_owner_is_swept_but_not_its_evidence(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom dunelab.machine import workdir\n"
        "base = Path(sys.argv[1])\nworkdir.create('left', base)\n"
        "workdir.keep(workdir.create('kept', base))\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert {folder.name.split("-")[0] for folder in tmp_path.iterdir()} == {"left", "kept"}
    workdir.create("new", tmp_path)
    assert {folder.name.split("-")[0] for folder in tmp_path.iterdir()} == {"new", "kept"}


def test_a_reused_process_id_is_no_owner(tmp_path: Path) -> None:
    folder = workdir.create("a", tmp_path)
    (folder / ".owner").write_text(f"{workdir._identity(1).split()[0]} 1 {workdir._namespace()}")
    assert workdir.sweep(tmp_path) == [folder]


def test_an_owner_in_another_namespace_may_live(tmp_path: Path) -> None:
    """Seen from there, no process of ours is there: a container must not sweep our folders."""
    folder = workdir.create("a", tmp_path)
    owner = folder / ".owner"
    pid, started, namespace = owner.read_text().split()
    owner.write_text(f"{pid} 1 pid:[1]")
    assert workdir.sweep(tmp_path) == []
    owner.write_text(f"{pid} {started} {namespace}")
    script = (
        "import sys\nfrom pathlib import Path\nfrom dunelab.machine import workdir\n"
        "print(workdir.sweep(Path(sys.argv[1])))\n"
    )
    inside = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    inside += ["--pid", "--fork", "--mount-proc", sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode == 0:
        assert done.stdout == "[]\n"
    else:
        assert "unshare" in done.stderr, done.stderr
    assert folder.exists()
    month_ago = time.time() - 30 * 86400
    owner.write_text(f"{pid} 1 pid:[1]")
    os.utime(owner, (month_ago, month_ago))
    assert workdir.sweep(tmp_path) == [folder]


def test_a_half_written_owner_is_left_to_its_writer(tmp_path: Path) -> None:
    folder = workdir.create("a", tmp_path)
    (folder / ".owner").write_text("")
    assert workdir.sweep(tmp_path) == []


def test_evidence_is_not_kept_for_ever(tmp_path: Path) -> None:
    folder = workdir.create("a", tmp_path)
    workdir.keep(folder)
    assert workdir.sweep(tmp_path) == []
    month_ago = time.time() - 30 * 86400
    os.utime(folder / ".kept", (month_ago, month_ago))
    assert workdir.sweep(tmp_path) == [folder]


def test_folders_are_private(tmp_path: Path) -> None:
    base = tmp_path / "base"
    folder = workdir.create("a", base)
    assert folder.stat().st_mode & 0o077 == 0
    assert base.stat().st_mode & 0o077 == 0


def test_the_base_follows_the_runtime_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert workdir.base_folder() == tmp_path / "dunelab"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert workdir.base_folder().name.startswith("dunelab-")
