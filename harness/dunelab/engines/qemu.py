# SPDX-License-Identifier: MIT
"""What the tcg and kvm engines share: starting QEMU and talking to it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.engines.base import EngineFailed
from dunelab.engines.process import EngineProcess, describe_exit
from dunelab.engines.qemu_argv import (
    Wiring,
    cpu_model,
    guest_parameters,
    qemu_argv,
    shell_text,
    state_key,
    with_cpu_model,
)
from dunelab.engines.qmp import QmpSession
from dunelab.errors import DeadlineExpired, EngineUnavailable
from dunelab.images.cmdline import kernel_cmdline
from dunelab.spec import EngineFacts, EngineName, MachineSpec, Unit, Vendor

BINARY = "qemu-system-x86_64"
VARIABLE = "DUNELAB_QEMU"
"""Names another QEMU than that on PATH, for whoever has several."""

INSTALL = "apt-get install --no-install-recommends qemu-system-x86"

_FEATURE_WARNING = re.compile(r"^.*(?:doesn't|does not) support requested feature.*$", re.MULTILINE)
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)")
_CPU_FLAG = {Vendor.AMD: "svm", Vendor.INTEL: "vmx"}


def find_binary() -> str | None:
    """The QEMU system emulator: what ``DUNELAB_QEMU`` names, else the one on PATH."""
    return shutil.which(os.environ.get(VARIABLE) or BINARY)


def missing() -> str:
    """Why there is no QEMU."""
    named = os.environ.get(VARIABLE)
    return f"{VARIABLE}={named} is no program" if named else f"{BINARY} is not installed"


def qemu_version(binary: str) -> str:
    """The version text of ``binary``: part of every saved state's key."""
    try:
        done = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineFailed(f"{binary} --version failed: {error}", next_command=INSTALL) from error
    return done.stdout.splitlines()[0].removeprefix("QEMU emulator version ").strip()


def require_binary(engine: EngineName) -> str:
    """The path of QEMU, or the error that says how to get it."""
    found = find_binary()
    if found is None:
        raise EngineUnavailable(f"engine {engine}: {missing()}", next_command=INSTALL)
    return found


def command_line(spec: MachineSpec) -> str:
    """What ``start`` would run, with the console on the terminal."""
    cmdline = kernel_cmdline(spec.cell.engine, guest_parameters(spec))
    binary = os.environ.get(VARIABLE) or BINARY
    if found := find_binary():
        spec = with_cpu_model(spec, qemu_version(found))
    return shell_text(qemu_argv(spec, cmdline=cmdline, wiring=Wiring(), binary=binary))


def saved_state_key(spec: MachineSpec) -> str:
    """The digest a saved state of ``spec`` is filed under."""
    version = qemu_version(require_binary(spec.cell.engine))
    spec = with_cpu_model(spec, version)
    cmdline = kernel_cmdline(spec.cell.engine, guest_parameters(spec))
    return state_key(spec, cmdline=cmdline, version=version)


def unknown_features(stderr: str) -> list[str]:
    """QEMU only warns when it drops a CPU feature and boots without it."""
    return [match.group(0).strip() for match in _FEATURE_WARNING.finditer(stderr)]


def forwarded_port(usernet: str) -> int:
    """The host port in the answer of ``info usernet``."""
    match = _FORWARD.search(usernet)
    if match is None:
        raise EngineFailed(f"QEMU forwards no SSH port; info usernet said:\n{usernet}")
    return int(match.group(1))


class QemuInstance:
    """One running QEMU.  Made by ``start_qemu``."""

    def __init__(
        self,
        process: EngineProcess,
        qmp: QmpSession,
        console: socket.socket,
        facts: EngineFacts,
        ssh_address: tuple[str, int],
    ) -> None:
        self._process = process
        self._qmp = qmp
        self._console = console
        self.facts = facts
        self.ssh_address = ssh_address

    @property
    def console_fd(self) -> int:
        return self._console.fileno()

    @property
    def engine_log(self) -> Path:
        return self._process.log

    @property
    def pid(self) -> int:
        return self._process.pid

    def diagnostics(self) -> str:
        return self._process.output()

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, deadline: Deadline) -> int:
        return self._process.wait(deadline)

    def power_off(self, deadline: Deadline) -> None:
        with contextlib.suppress(EngineFailed, DeadlineExpired):
            self._qmp.execute("quit", deadline)
        with contextlib.suppress(DeadlineExpired):
            self._process.wait(deadline)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._qmp.close()
        self._console.close()

    def pause(self) -> None:
        self._qmp.execute("stop", Deadline.after(10, "pause"))

    def resume(self) -> None:
        self._qmp.execute("cont", Deadline.after(10, "resume"))

    def save(self, path: Path, deadline: Deadline) -> None:
        """Write the state next to ``path`` and rename it: readers see all or nothing."""
        part = path.with_name(f".{path.name}.{self.pid}")
        try:
            self._qmp.execute("stop", deadline)
            self._migrate("migrate", f"exec:cat > {shlex.quote(str(part))}", deadline)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        self._qmp.execute("cont", deadline)

    def restore(self, path: Path, deadline: Deadline) -> None:
        """Load a state into a QEMU started with ``-incoming defer``, and run it."""
        self._migrate("migrate-incoming", f"exec:cat {shlex.quote(str(path))}", deadline)
        self._qmp.execute("cont", deadline)

    def _migrate(self, command: str, uri: str, deadline: Deadline) -> None:
        # exec: works in every QEMU; file: came with 8.2 and fd: lost its file
        # support again.  The default bandwidth limit of 128 MiB/s is for live
        # migration over a shared network and only costs time here.
        self._qmp.execute("migrate-set-parameters", deadline, {"max-bandwidth": 1 << 40})
        self._qmp.execute(command, deadline, {"uri": uri})
        while True:
            info = self._qmp.execute("query-migrate", deadline)
            status = info.get("status")
            if status == "completed":
                return
            if status in ("failed", "cancelled"):
                detail = info.get("error-desc", status)
                raise EngineFailed(f"{command} failed: {detail}", evidence=self.engine_log)
            if self.poll() is not None:
                raise EngineFailed(f"QEMU ended during {command}", evidence=self.engine_log)
            deadline.check()
            time.sleep(0.03)


def start_qemu(
    spec: MachineSpec, deadline: Deadline, unit: Unit, restore_from: Path | None
) -> QemuInstance:
    """Start QEMU for ``spec`` and read back what it really is."""
    binary = require_binary(spec.cell.engine)
    spec = with_cpu_model(spec, qemu_version(binary))
    cmdline = kernel_cmdline(spec.cell.engine, guest_parameters(spec))
    spec.workdir.mkdir(parents=True, exist_ok=True)
    log = spec.workdir / "qemu.log"
    with contextlib.ExitStack() as undo:
        console, console_far = _pair(undo)
        monitor, monitor_far = _pair(undo)
        wiring = Wiring(console_far.fileno(), monitor_far.fileno())
        argv = qemu_argv(
            spec,
            cmdline=cmdline,
            wiring=wiring,
            binary=binary,
            incoming=restore_from is not None,
        )
        process = EngineProcess(
            argv,
            log=log,
            cwd=spec.workdir,
            pass_fds=(console_far.fileno(), monitor_far.fileno()),
            env=spec.env,
        )
        undo.callback(process.kill)
        console_far.close()
        monitor_far.close()
        try:
            qmp = QmpSession(monitor, deadline)
        except EngineFailed as error:
            raise _refusal(process, error) from error
        undo.callback(qmp.close)
        facts = _read_back(spec, qmp, unit, deadline)
        _refuse_dropped_features(process)
        port = forwarded_port(qmp.human("info usernet", deadline))
        instance = QemuInstance(process, qmp, console, facts, ("127.0.0.1", port))
        if restore_from is not None:
            instance.restore(restore_from, deadline)
        undo.pop_all()
        return instance


def _pair(undo: contextlib.ExitStack) -> tuple[socket.socket, socket.socket]:
    near, far = socket.socketpair()
    undo.callback(near.close)
    undo.callback(far.close)
    return near, far


def _refusal(process: EngineProcess, error: EngineFailed) -> EngineFailed:
    with contextlib.suppress(DeadlineExpired):
        process.wait(Deadline.after(2, "QEMU's end"))
    status = process.poll()
    ended = "still runs" if status is None else f"ended with {describe_exit(status)}"
    said = process.output().strip() or str(error)
    return EngineFailed(f"QEMU did not start ({ended}): {said}", evidence=process.log)


def _refuse_dropped_features(process: EngineProcess) -> None:
    dropped = unknown_features(process.output(limit=20000))
    if dropped:
        raise EngineFailed(
            "QEMU dropped a CPU feature that was asked for: " + "; ".join(dropped),
            evidence=process.log,
        )


def _read_back(spec: MachineSpec, qmp: QmpSession, unit: Unit, deadline: Deadline) -> EngineFacts:
    enabled = bool(qmp.execute("query-kvm", deadline)["enabled"])
    accelerator = "kvm" if enabled else "tcg"
    if accelerator != spec.cell.engine.value:
        raise EngineFailed(f"asked for {spec.cell.engine}, QEMU runs on {accelerator}")
    version = qmp.execute("query-version", deadline)
    numbers = version["qemu"]
    text = f"QEMU {numbers['major']}.{numbers['minor']}.{numbers['micro']}"
    package = str(version.get("package", "")).strip()
    cpu = qmp.execute("query-cpus-fast", deadline)[0]["qom-path"]

    def prop(name: str) -> object:
        return qmp.execute("qom-get", deadline, {"path": cpu, "property": name})

    flag = _CPU_FLAG[spec.cell.vendor]
    if prop(flag) is not True:
        raise EngineFailed(
            f"QEMU's CPU has no {flag}: {spec.cell.vendor} virtualisation cannot be tested on it"
        )
    model = cpu_model(spec)
    if spec.icount:
        accelerator += ",icount"
    return EngineFacts(
        engine=spec.cell.engine,
        accelerator=accelerator,
        version=f"{text} ({package})" if package else text,
        vendor=spec.cell.vendor,
        cpu_model=f"{model} ({str(prop('model-id')).strip()})",
        unit=unit,
    )
