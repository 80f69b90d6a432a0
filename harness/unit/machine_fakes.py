# SPDX-License-Identifier: MIT
"""A guest without a VM: a Python process as emulator, an SSH server in this process.

The SSH server runs commands with the host's shell, so ``Machine`` is tested
through real sockets, real paramiko and a real child process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from dunelab.deadline import Deadline
from dunelab.engines.base import Availability
from dunelab.engines.process import EngineProcess
from dunelab.spec import (
    Cell,
    EngineFacts,
    EngineName,
    GuestImage,
    ImageKind,
    MachineSpec,
    Unit,
    Vendor,
)

PANIC = """\
[    5.000000] Kernel panic - not syncing: test of the alarm
[    5.000001] CPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1
[    5.000002] ---[ end Kernel panic - not syncing: test of the alarm ]---
"""

# The emulator: writes its console script to a descriptor, obeys SIGUSR1 (says
# a second script) and then waits to be ended.
EMULATOR = """
import os, signal, sys, time
fd, first, second, status = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
signal.signal(signal.SIGUSR1, lambda *_: os.write(fd, second.encode()))
print("emulator speaking", flush=True)
os.write(fd, first.encode())
if status != "stay":
    sys.exit(int(status))
while True:
    time.sleep(60)
"""


@dataclass
class FakeSplat:
    title: str
    text: str
    fatal: bool


def find_panics(text: str) -> list[FakeSplat]:
    """The simplest splat finder."""
    at = text.find("Kernel panic")
    return [FakeSplat(text[at:].splitlines()[0], text[at:], True)] if at >= 0 else []


class FakeInstance:
    def __init__(self, process: EngineProcess, console: socket.socket, port: int) -> None:
        self.process = process
        self.console = console
        self.ssh_address = ("127.0.0.1", port)
        self.engine_log = process.log
        self.paused = False
        self.facts = EngineFacts(
            EngineName.TCG, "fake", "1", Vendor.AMD, "no cpu at all", Unit.TICKS
        )

    @property
    def console_fd(self) -> int:
        return self.console.fileno()

    @property
    def pid(self) -> int:
        return self.process.pid

    def diagnostics(self) -> str:
        return self.process.output()

    def poll(self) -> int | None:
        return self.process.poll()

    def wait(self, deadline: Deadline) -> int:
        return self.process.wait(deadline)

    def power_off(self, deadline: Deadline) -> None:
        self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.console.close()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def save(self, path: Path, deadline: Deadline) -> None:
        path.write_text("state")

    def say_more(self) -> None:
        self.process.signal(signal.SIGUSR1)


@dataclass
class FakeEngine:
    """Starts ``EMULATOR`` with what it shall say."""

    port: int
    first: str = "booting\ndunelab: ready\n"
    second: str = PANIC
    status: str = "stay"
    works: bool = True
    can_save: bool = True
    name: EngineName = EngineName.TCG
    vendors: tuple[Vendor, ...] = (Vendor.AMD,)
    unit: Unit = Unit.TICKS
    started: list[FakeInstance] = field(default_factory=list)
    restored_from: list[Path | None] = field(default_factory=list)

    def check(self, vendor: Vendor) -> Availability:
        if self.works and vendor in self.vendors:
            return Availability(True, "is a fake")
        return Availability(False, "is a broken fake", "mend the fake")

    def command_line(self, spec: MachineSpec) -> str:
        return "fake"

    def state_key(self, spec: MachineSpec) -> str:
        return f"key-{spec.image.digest}"

    def start(
        self, spec: MachineSpec, deadline: Deadline, restore_from: Path | None = None
    ) -> FakeInstance:
        near, far = socket.socketpair()
        spec.workdir.mkdir(parents=True, exist_ok=True)
        script = [sys.executable, "-c", EMULATOR, str(far.fileno())]
        process = EngineProcess(
            [*script, self.first, self.second, self.status],
            log=spec.workdir / "engine.log",
            cwd=spec.workdir,
            pass_fds=[far.fileno()],
        )
        far.close()
        instance = FakeInstance(process, near, self.port)
        self.started.append(instance)
        self.restored_from.append(restore_from)
        return instance


class _Server(paramiko.ServerInterface):
    def __init__(self, owner: FakeGuest) -> None:
        self.owner = owner

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self.owner.stand_still()
        return super().check_channel_subsystem_request(channel, name)

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.owner.stand_still()
        threading.Thread(target=self.owner.execute, args=(channel, command), daemon=True).start()
        return True


class _Files(paramiko.SFTPServerInterface):
    """SFTP on the host's file system."""

    def open(self, path: str, flags: int, attr: paramiko.SFTPAttributes) -> object:
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)
        handle = paramiko.SFTPHandle(flags)
        writing = flags & (os.O_WRONLY | os.O_RDWR)
        stream = os.fdopen(descriptor, "wb" if writing else "rb")
        handle.readfile = stream
        handle.writefile = stream
        return handle

    def stat(self, path: str) -> object:
        try:
            return paramiko.SFTPAttributes.from_stat(Path(path).stat())
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno or 0)

    lstat = stat

    def canonicalize(self, path: str) -> str:
        return str(Path(path).absolute())

    def chattr(self, path: str, attr: paramiko.SFTPAttributes) -> int:
        paramiko.SFTPServer.set_file_attr(path, attr)
        return paramiko.SFTP_OK


class FakeGuest:
    """An SSH server on a free port.

    ``deaf`` makes it swallow every command; ``stuck`` keeps it from answering
    even the request for one, as a guest does whose CPUs stand still.
    """

    def __init__(self, folder: Path) -> None:
        self.deaf = False
        self.stuck = threading.Event()
        self.commands: list[str] = []
        self.on_poweroff: Callable[[], None] = lambda: None
        self._host_key = paramiko.RSAKey.generate(2048)
        self.key = folder / "key"
        self._host_key.write_private_key_file(str(self.key))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._transports: list[paramiko.Transport] = []
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.stuck.clear()
        # Closing alone leaves the thread in accept(), with a number that the
        # next file gets.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()

    def stand_still(self) -> None:
        """Return when the guest is not, or no longer, stuck."""
        while self.stuck.is_set():
            time.sleep(0.05)

    def hang_up(self) -> None:
        """Cut all connections, as a dying guest does."""
        for transport in self._transports:
            transport.close()

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        text = command.decode()
        self.commands.append(text)
        # paramiko answers the request once the server's hook has returned, while this runs:
        # a short command would close the channel before.  The client ends its input when
        # it has the answer.
        channel.recv(1)
        if self.deaf:
            return
        if "poweroff -f" in text:
            self.on_poweroff()
            self.hang_up()
            return
        # What would change a guest must not change this machine.
        for word in ("kill -9", "date -s"):
            text = text.replace(word, "echo")
        with subprocess.Popen(
            ["sh", "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stdout:
                with contextlib.suppress(OSError):
                    channel.sendall(line)
            with contextlib.suppress(OSError):
                channel.sendall_stderr(child.stderr.read())
        with contextlib.suppress(OSError):
            channel.send_exit_status(child.returncode)
            channel.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self._host_key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _Files)
            self._transports.append(transport)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Server(self))


@contextlib.contextmanager
def fake_guest(folder: Path) -> Iterator[FakeGuest]:
    guest = FakeGuest(folder)
    try:
        yield guest
    finally:
        guest.close()


def fake_spec(folder: Path, key: Path | None = None, **changes: object) -> MachineSpec:
    image = GuestImage(
        kernel="debian-6.1",
        release="6.1.0",
        vmlinuz=Path("/img/vmlinuz"),
        initrd=Path("/img/initrd"),
        iso=None,
        ssh_user="root",
        ssh_key=key or Path("/img/key"),
        digest="d" * 8,
    )
    values: dict[str, object] = {
        "cell": Cell(EngineName.TCG, Vendor.AMD, "debian-6.1"),
        "image": image,
        "workdir": folder,
    }
    return MachineSpec(**{**values, **changes})


def with_disk(spec: MachineSpec, disk: str) -> MachineSpec:
    """The same machine with the full guest."""
    image = dataclasses.replace(spec.image, kind=ImageKind.FULL, disk=Path(disk))
    return dataclasses.replace(spec, image=image)
