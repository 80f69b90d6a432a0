# SPDX-License-Identifier: MIT
from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dunelab.engines import qemu
from dunelab.errors import EngineUnavailable
from dunelab.images.qemu_roots import script
from dunelab.spec import EngineName


def test_the_qemu_of_a_root_runs_with_what_belongs_to_it(tmp_path: Path) -> None:
    root = tmp_path / "a root"
    loader = root / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text('#!/bin/sh\necho "$QEMU_MODULE_DIR"\nprintf "%s\\n" "$@"\n')
    loader.chmod(0o755)
    program = tmp_path / "qemu"
    program.write_text(script(root))
    program.chmod(0o755)
    said = subprocess.run(
        [program, "-cpu", "max,-cx16", "a b"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == f"{root}/usr/lib/x86_64-linux-gnu/qemu"
    assert said[1:4] == [
        "--library-path",
        f"{root}/lib/x86_64-linux-gnu:{root}/usr/lib/x86_64-linux-gnu",
        f"{root}/usr/bin/qemu-system-x86_64",
    ]
    assert said[4:6] == ["-L", f"{root}/usr/share/qemu"]
    assert said[-3:] == ["-cpu", "max,-cx16", "a b"]


def test_another_qemu_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "qemu"
    other.write_text("#!/bin/sh\necho 'QEMU emulator version 5.2.0 (theirs)'\n")
    other.chmod(0o755)
    monkeypatch.setenv(qemu.VARIABLE, str(other))
    assert qemu.find_binary() == str(other)
    assert qemu.qemu_version(qemu.require_binary(EngineName.TCG)) == "5.2.0 (theirs)"
    monkeypatch.delenv(qemu.VARIABLE)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert qemu.find_binary() != str(other)


def test_one_that_is_not_there_is_named_in_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(qemu.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(EngineUnavailable, match=f"DUNELAB_QEMU={tmp_path}/none is no program"):
        qemu.require_binary(EngineName.TCG)
