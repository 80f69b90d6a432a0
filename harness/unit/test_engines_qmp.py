# SPDX-License-Identifier: MIT
"""The monitor session against a real QEMU without a machine (a fraction of a second)."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.engines.base import EngineFailed
from dunelab.engines.process import EngineProcess
from dunelab.engines.qmp import QmpSession
from dunelab.errors import DeadlineExpired

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64"
)


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds, "an answer")


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[tuple[EngineProcess, QmpSession]]:
    near, far = socket.socketpair()
    process = EngineProcess(
        [
            *("qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none"),
            *("-chardev", f"socket,id=qmp,fd={far.fileno()}", "-mon", "chardev=qmp,mode=control"),
        ],
        log=tmp_path / "log",
        cwd=tmp_path,
        pass_fds=[far.fileno()],
    )
    far.close()
    session = QmpSession(near, soon())
    yield process, session
    session.close()
    process.kill()


def test_commands_of_both_monitors(qemu: tuple[EngineProcess, QmpSession]) -> None:
    _process, session = qemu
    assert session.execute("query-version", soon())["qemu"]["major"] >= 5
    assert session.human("info version", soon()).strip()


def test_a_refused_command_says_why(qemu: tuple[EngineProcess, QmpSession]) -> None:
    with pytest.raises(EngineFailed, match="no-such-command"):
        qemu[1].execute("no-such-command", soon())


def test_a_qemu_that_ended_is_a_lost_monitor(qemu: tuple[EngineProcess, QmpSession]) -> None:
    process, session = qemu
    process.kill()
    with pytest.raises(EngineFailed, match="monitor"):
        session.execute("query-version", soon())
    session.close()
    session.close()


def test_a_silent_monitor_runs_into_the_deadline() -> None:
    near, far = socket.socketpair()
    with pytest.raises(DeadlineExpired, match="did not answer"):
        QmpSession(near, soon(0.2))
    far.close()
    near.close()
