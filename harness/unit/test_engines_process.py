# SPDX-License-Identifier: MIT
"""Nothing outlives the harness, whatever way it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import gone, wait_gone

from dunelab.deadline import Deadline
from dunelab.engines.process import EngineProcess, describe_exit
from dunelab.engines.qemu import forwarded_port, unknown_features
from dunelab.errors import DeadlineExpired, InfrastructureError

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(300)"]

# A harness in small: starts an emulator from a thread that ends at once, then
# reports its pid and waits to be killed.
HARNESS = f"""
import signal, sys, threading, time
from pathlib import Path
from dunelab.engines.process import EngineProcess
# Ignored in what a shell has put into the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path(sys.argv[1])
def start():
    child = EngineProcess({SLEEPER!r}, log=folder / "log", cwd=folder)
    print(child.pid, flush=True)
thread = threading.Thread(target=start)
thread.start()
thread.join()
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_an_emulator_dies_with_a_killed_harness(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        child = int(harness.stdout.readline())
        time.sleep(0.3)
        assert not gone(child), "it must outlive the thread that started it"
        harness.send_signal(number)
        harness.wait(timeout=20)
    assert wait_gone(child)


def test_a_stopped_emulator_can_be_killed(tmp_path: Path) -> None:
    child = EngineProcess(SLEEPER, log=tmp_path / "log", cwd=tmp_path)
    child.signal(signal.SIGSTOP)
    child.kill()
    assert child.poll() == -signal.SIGKILL
    child.kill()


def test_the_whole_group_is_killed(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "print(inner.pid, flush=True); time.sleep(300)"
    )
    child = EngineProcess([sys.executable, "-c", script], log=tmp_path / "log", cwd=tmp_path)
    until = time.monotonic() + 20
    while not child.output().strip() and time.monotonic() < until:
        time.sleep(0.05)
    child.kill()
    assert wait_gone(int(child.output()))


def test_it_is_in_a_group_of_its_own(tmp_path: Path) -> None:
    child = EngineProcess(SLEEPER, log=tmp_path / "log", cwd=tmp_path)
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    finally:
        child.kill()


def test_waiting_has_a_deadline(tmp_path: Path) -> None:
    child = EngineProcess(SLEEPER, log=tmp_path / "log", cwd=tmp_path)
    try:
        with pytest.raises(DeadlineExpired, match="did not end within"):
            child.wait(Deadline.after(0.2, "nothing"))
    finally:
        child.kill()


def test_a_missing_setpriv_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="setpriv is missing"):
        EngineProcess(SLEEPER, log=tmp_path / "log", cwd=tmp_path)


def test_output_is_the_end_of_the_log(tmp_path: Path) -> None:
    child = EngineProcess(
        [sys.executable, "-c", "print('x' * 50 + 'end')"], log=tmp_path / "log", cwd=tmp_path
    )
    assert child.wait(Deadline.after(20, "end")) == 0
    assert child.output(limit=5) == "xend\n"


def test_children_are_forked_by_a_lasting_thread(tmp_path: Path) -> None:
    found: list[EngineProcess] = []
    thread = threading.Thread(
        target=lambda: found.append(EngineProcess(SLEEPER, log=tmp_path / "log", cwd=tmp_path))
    )
    thread.start()
    thread.join()
    try:
        time.sleep(0.3)
        assert found[0].poll() is None
    finally:
        found[0].kill()


def test_exit_statuses_in_words() -> None:
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-9) == "killed by SIGKILL"


def test_qemu_feature_warnings_are_found() -> None:
    text = (
        "qemu-system-x86_64: warning: TCG doesn't support requested feature: "
        "CPUID.01H:ECX.vmx [bit 5]\nharmless\n"
    )
    assert unknown_features(text) == [text.splitlines()[0]]
    assert unknown_features("harmless\n") == []


def test_the_forwarded_port_is_read_from_qemu() -> None:
    usernet = (
        "Hub -1 (net0):\r\n"
        "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
        "  TCP[HOST_FORWARD]   8       127.0.0.1 35225       10.0.2.15    22     0     0\r\n"
    )
    assert forwarded_port(usernet) == 35225
    with pytest.raises(InfrastructureError, match="no SSH port"):
        forwarded_port("Hub -1 (net0):\n")
