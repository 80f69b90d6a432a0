# SPDX-License-Identifier: MIT
"""Bochs: VT-x (and SVM) on any machine.

Bochs has neither a monitor nor saved states worth their restrictions, so this
driver is files and signals: a configuration in, a console pipe and a log out,
SIGSTOP to pause.  With ``sync=none`` guest time is counted in instructions, so
a stopped guest does not notice.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from dunelab.deadline import Deadline
from dunelab.engines.base import Availability, EngineFailed, Instance
from dunelab.engines.bochs_rc import BochsFiles, bochs_rc, cpu_model, slirp_conf
from dunelab.engines.process import EngineProcess, describe_exit
from dunelab.errors import DeadlineExpired, DunelabError, UsageError
from dunelab.images.cmdline import kernel_cmdline
from dunelab.spec import EngineFacts, EngineName, GuestImage, MachineSpec, Unit, Vendor

SOFT_POWER_OFF = "ACPI control: soft power off"

# What a reader of a failed test wants from Bochs' log: panics, errors of the
# CPU (a failed VM entry names the consistency check), not the device chatter.
# Linux probes MSRs that no emulator has, thousands of times: those are left out.
_TELLING = re.compile(r"^\d+[pe]\[(?!.*(?:RDMSR|WRMSR): Unknown register).*$", re.MULTILINE)
# As Bochs 3.0 and 2.7 say it.
_MODEL = re.compile(r"(?:initialized CPU model|Using pre-defined CPU configuration:) (\S+)")
_FORWARD_FAILED = "could not set up host forwarding rule"
_TELLING_LINES = 40
_START_SECONDS = 15.0
_TCP_LISTEN = "0A"


class BochsBinary(Protocol):
    """What the image store says of a Bochs it built or found."""

    @property
    def binary(self) -> Path: ...

    @property
    def share(self) -> Path: ...

    @property
    def version(self) -> str: ...

    @property
    def origin(self) -> str: ...


class BochsInstance:
    """One running Bochs.  Made by ``BochsEngine.start``."""

    def __init__(
        self,
        process: EngineProcess,
        console_fd: int,
        facts: EngineFacts,
        port: socket.socket,
        log: Path,
    ) -> None:
        self._process = process
        self._console_fd = console_fd
        self._port = port
        self.facts = facts
        self.engine_log = log
        self.ssh_address: tuple[str, int] = port.getsockname()

    @property
    def console_fd(self) -> int:
        return self._console_fd

    @property
    def pid(self) -> int:
        return self._process.pid

    def diagnostics(self) -> str:
        """Bochs' errors and panics: a failed VM entry's consistency check is there."""
        return telling_lines(_read(self.engine_log))

    def poll(self) -> int | None:
        return self._clean(self._process.poll())

    def wait(self, deadline: Deadline) -> int:
        status = self._clean(self._process.wait(deadline))
        assert status is not None
        return status

    def power_off(self, deadline: Deadline) -> None:
        self._process.signal(signal.SIGCONT)
        self._process.signal(signal.SIGTERM)
        with contextlib.suppress(DeadlineExpired):
            self._process.wait(deadline)
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._port.close()
        if self._console_fd >= 0:
            os.close(self._console_fd)
            self._console_fd = -1

    def pause(self) -> None:
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.signal(signal.SIGCONT)

    def save(self, path: Path, deadline: Deadline) -> None:
        raise UsageError("Bochs has no saved states here: start it cold, or use tcg")

    def _clean(self, status: int | None) -> int | None:
        """A guest's power-off makes Bochs panic and exit with 1: that is clean."""
        if status and SOFT_POWER_OFF in _read(self.engine_log):
            return 0
        return status


class BochsEngine:
    """Software emulation by Bochs.  Counts instructions, so its unit is ticks."""

    name = EngineName.BOCHS
    vendors = (Vendor.INTEL, Vendor.AMD)
    unit = Unit.TICKS
    can_save = False

    def __init__(
        self,
        build: Callable[[], BochsBinary],
        iso: Callable[[GuestImage, str], Path],
    ) -> None:
        """``build`` provides the emulator, ``iso`` a boot medium with a command line."""
        self._build = build
        self._iso = iso

    def check(self, vendor: Vendor) -> Availability:
        try:
            build = self._build()
        except DunelabError as error:
            return Availability(False, error.what, error.next_command)
        return Availability(
            True,
            f"{build.version} ({build.origin})",
            facts={"binary": str(build.binary), "version": build.version, "origin": build.origin},
        )

    def command_line(self, spec: MachineSpec) -> str:
        build = self._build()
        config = spec.workdir / "bochsrc"
        files = self._files(spec, build, Path("/dev/stdout"))
        rc = bochs_rc(spec, files, display=_display(build))
        return (
            f"# {config}:\n{rc}\n# {spec.workdir / 'slirp.conf'}:\n{slirp_conf(2222)}\n"
            + shlex.join(_argv(build, config))
        )

    def state_key(self, spec: MachineSpec) -> str:
        raise UsageError("Bochs has no saved states here")

    def start(
        self, spec: MachineSpec, deadline: Deadline, restore_from: Path | None = None
    ) -> Instance:
        if restore_from is not None:
            raise UsageError("Bochs has no saved states here: start it cold, or use tcg")
        build = self._build()
        spec.workdir.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            near, far = os.pipe()
            undo.callback(os.close, near)
            far_end = undo.enter_context(contextlib.closing(os.fdopen(far, "wb")))
            port = reserve_port()
            undo.callback(port.close)
            files = self._files(spec, build, Path(f"/proc/self/fd/{far}"))
            config = spec.workdir / "bochsrc"
            config.write_text(bochs_rc(spec, files, display=_display(build)))
            files.slirp.write_text(slirp_conf(port.getsockname()[1]))
            (spec.workdir / "debugger.rc").write_text("c\n")
            process = EngineProcess(
                _argv(build, config),
                log=spec.workdir / "bochs.out",
                cwd=spec.workdir,
                pass_fds=(far,),
                env={**spec.env, "BXSHARE": str(build.share)},
            )
            undo.callback(process.kill)
            _await_network(process, files.log, port.getsockname()[1], deadline)
            facts = EngineFacts(
                engine=self.name,
                accelerator="bochs",
                version=f"{build.version} ({build.origin})",
                vendor=spec.cell.vendor,
                cpu_model=model_in_log(_read(files.log), cpu_model(spec)),
                unit=self.unit,
            )
            instance = BochsInstance(process, near, facts, port, files.log)
            undo.pop_all()
            # Only Bochs holds the pipe now: its end is the console's end.
            far_end.close()
            return instance

    def _files(self, spec: MachineSpec, build: BochsBinary, console: Path) -> BochsFiles:
        cmdline = kernel_cmdline(self.name, spec.parameters)
        return BochsFiles(
            iso=self._iso(spec.image, cmdline),
            share=build.share,
            slirp=spec.workdir / "slirp.conf",
            log=spec.workdir / "bochs.log",
            console=console,
        )


def telling_lines(log: str) -> str:
    """The last errors and panics of a Bochs log; a power-off is not one of them."""
    lines = [m.group(0) for m in _TELLING.finditer(log) if SOFT_POWER_OFF not in m.group(0)]
    return "\n".join(lines[-_TELLING_LINES:])


def model_in_log(log: str, wanted: str) -> str:
    """The CPU model Bochs says it emulates; a wanted one it lacks is an error."""
    match = _MODEL.search(log)
    if match is None or match.group(1) != wanted:
        found = match.group(1) if match else "none"
        raise EngineFailed(f"Bochs was asked for the CPU model {wanted} and emulates {found}")
    return wanted


def reserve_port() -> socket.socket:
    """A bound socket that holds a free port for Bochs to listen on.

    Linux lets a second socket bind the same port if both set SO_REUSEADDR and
    neither listened before; libslirp sets it.  So the port cannot be given to
    anybody else between this moment and Bochs' start, nor afterwards.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def _argv(build: BochsBinary, config: Path) -> list[str]:
    argv = [str(build.binary), "-q", "-f", str(config)]
    if _has_debugger(build):
        # The packaged Bochs stops in its debugger's prompt: feed it "continue".
        argv += ["-rc", str(config.with_name("debugger.rc"))]
    return argv


def _display(build: BochsBinary) -> str:
    # The packaged Bochs has no display "nogui"; without the option it would
    # wait for somebody to connect to its screen.
    return 'rfb, options="timeout=0"' if _has_debugger(build) else "nogui"


def _has_debugger(build: BochsBinary) -> bool:
    return build.origin == "package"


def _await_network(process: EngineProcess, log: Path, port: int, deadline: Deadline) -> None:
    """Wait until Bochs listens on the SSH port: its configuration was accepted."""
    until = deadline.sooner(_START_SECONDS, "Bochs' network")
    while not listens(port):
        if process.poll() is not None or until.expired:
            status = process.poll()
            ended = "still runs" if status is None else f"ended with {describe_exit(status)}"
            said = telling_lines(_read(log)) or process.output().strip()
            raise EngineFailed(f"Bochs did not start ({ended}): {said}", evidence=log)
        time.sleep(0.02)
    # From the log's first lines; Bochs writes them before it opens the network.
    if _FORWARD_FAILED in _read(log):
        raise EngineFailed(f"Bochs cannot forward port {port} to the guest", evidence=log)


def listens(port: int) -> bool:
    """Whether something listens on 127.0.0.1:port.  Asks the kernel, connects to nothing."""
    wanted = f"0100007F:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == wanted and fields[3] == _TCP_LISTEN:
            return True
    return False


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
