# SPDX-License-Identifier: MIT
"""One kept SSH connection to a guest: commands with deadlines, files both ways."""

from __future__ import annotations

import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fabric
import paramiko

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.spec import CommandResult

OutputSink = Callable[[str, str], None]
"""Called with ("stdout" or "stderr", text) while a command runs."""

_POLL_SECONDS = 0.25
_CONNECT_SECONDS = 20.0
_LOST = (paramiko.SSHException, EOFError, OSError)


class ConnectionLost(InfrastructureError):
    """The SSH connection broke.  The caller finds out whether the guest died."""


class Overran(InfrastructureError):
    """A command did not end before its deadline.  The caller finds out why."""


class GuestShell:
    """An SSH connection that is opened once and reopened when it was lost.

    Host keys are not checked: the peer is a port of this very machine, bound
    by the emulator, and the guest's key is as old as its image.
    """

    def __init__(self, address: tuple[str, int], user: str, key: Path) -> None:
        self._address = address
        self._user = user
        self._key = key
        self._connection: Any = None

    @property
    def connected(self) -> bool:
        return self._connection is not None and bool(self._connection.is_connected)

    def connect(self, deadline: Deadline, abort: Callable[[], None]) -> None:
        """Connect, trying again until the guest answers, dies, or time is up."""
        while True:
            abort()
            try:
                self._open(deadline.sooner(_CONNECT_SECONDS))
            except paramiko.AuthenticationException as error:
                raise InfrastructureError(
                    f"the guest refuses the key {self._key}: {error}"
                ) from error
            except _LOST as error:
                if deadline.expired:
                    raise InfrastructureError(
                        f"no SSH to {self._address[0]}:{self._address[1]} within "
                        f"{deadline.seconds:.1f} s: {error or type(error).__name__}"
                    ) from error
                time.sleep(min(0.1, deadline.remaining()))
            else:
                return

    def run(
        self,
        command: str,
        deadline: Deadline,
        *,
        env: Mapping[str, str] | None = None,
        sink: OutputSink | None = None,
        abort: Callable[[], None],
    ) -> CommandResult:
        """Run ``command`` by the guest's shell and return how it ended."""
        started = time.monotonic()
        if not self.connected:
            self.connect(deadline, abort)
        leash = _Leash(self._transport(), deadline)
        try:
            with leash:
                channel = self._channel(deadline)
                channel.exec_command(_with_env(command, env))
                channel.shutdown_write()
            out, err = _collect(channel, deadline, sink, abort)
            status = channel.recv_exit_status()
        except _LOST as error:
            self.close()
            if leash.pulled:
                raise Overran(
                    f"no answer to the request for a command within {deadline.seconds:.1f} s"
                ) from error
            raise ConnectionLost(
                f"the SSH connection broke during {command!r}: {error or type(error).__name__}"
            ) from error
        if status < 0:
            # No exit status was sent: the server went away, or a signal ended
            # the command on a server that reports signals (RFC 4254, 6.10).
            self._distinguish_signal(command)
        return CommandResult(command, status, out, err, time.monotonic() - started)

    def put(self, local: Path, remote: str, mode: int, deadline: Deadline) -> None:
        """Copy a file into the guest."""
        with _sftp_errors(f"push {local} to {remote}"), _Leash(self._transport(), deadline):
            self._connection.put(str(local), remote, preserve_mode=False)
            self._connection.sftp().chmod(remote, mode)

    def get(self, remote: str, local: Path, deadline: Deadline) -> None:
        """Copy a file out of the guest."""
        with _sftp_errors(f"pull {remote} to {local}"), _Leash(self._transport(), deadline):
            self._connection.get(remote, str(local), preserve_mode=False)

    def interactive(self, command: str | None, columns: int, lines: int) -> paramiko.Channel:
        """A channel with a terminal: for ``dunelab shell``."""
        deadline = Deadline.after(30, "a terminal")
        with _Leash(self._transport(), deadline):
            channel = self._channel(deadline)
            channel.get_pty(term="xterm", width=columns, height=lines)
            if command is None:
                channel.invoke_shell()
            else:
                channel.exec_command(command)
        return channel

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, deadline: Deadline) -> None:
        self.close()
        seconds = max(0.1, deadline.remaining())
        config = fabric.Config(overrides={"load_ssh_configs": False}, lazy=True)
        connection = fabric.Connection(
            self._address[0],
            user=self._user,
            port=self._address[1],
            config=config,
            connect_timeout=seconds,
            connect_kwargs={
                "key_filename": str(self._key),
                "look_for_keys": False,
                "allow_agent": False,
                "banner_timeout": seconds,
                "auth_timeout": seconds,
            },
        )
        try:
            connection.open()
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _transport(self) -> paramiko.Transport | None:
        return self._connection.transport if self._connection is not None else None

    def _channel(self, deadline: Deadline) -> paramiko.Channel:
        transport = self._transport()
        if transport is None:
            raise EOFError("not connected")
        channel: paramiko.Channel = transport.open_session(timeout=max(0.1, deadline.remaining()))
        return channel

    def _distinguish_signal(self, command: str) -> None:
        if not self.connected:
            raise ConnectionLost(f"the SSH connection broke during {command!r}")


def _with_env(command: str, env: Mapping[str, str] | None) -> str:
    # Servers drop variables sent over the protocol unless told to accept them.
    exports = "".join(
        f"export {name}={shlex.quote(value)}; " for name, value in (env or {}).items()
    )
    return exports + command


def _collect(
    channel: paramiko.Channel,
    deadline: Deadline,
    sink: OutputSink | None,
    abort: Callable[[], None],
) -> tuple[str, str]:
    texts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def drain() -> None:
        while channel.recv_ready():
            take("stdout", channel.recv(65536))
        while channel.recv_stderr_ready():
            take("stderr", channel.recv_stderr(65536))

    def take(stream: str, data: bytes) -> None:
        texts[stream].append(data)
        if sink is not None and data:
            sink(stream, data.decode("utf-8", "replace"))

    while True:
        drain()
        if channel.exit_status_ready() and (channel.eof_received or channel.closed):
            drain()
            break
        abort()
        if deadline.expired:
            channel.close()
            raise Overran(f"no end of the command within {deadline.seconds:.1f} s")
        if channel.eof_received:
            # Readable for ever from here on; what is missing is the status.
            channel.status_event.wait(0.1)
        else:
            select.select([channel], [], [], min(_POLL_SECONDS, deadline.remaining()))
    decoded = {name: b"".join(parts).decode("utf-8", "replace") for name, parts in texts.items()}
    channel.close()
    return decoded["stdout"], decoded["stderr"]


class _Leash:
    """Hangs up when time is up.

    paramiko waits without a limit for the answer to a channel request and for
    the reply to an SFTP packet; closing the transport is what ends such a wait.
    """

    def __init__(self, transport: paramiko.Transport | None, deadline: Deadline) -> None:
        self.pulled = False
        self._transport = transport
        self._timer = threading.Timer(deadline.remaining(), self._pull)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._timer.cancel()

    def _pull(self) -> None:
        self.pulled = True
        if self._transport is not None:
            self._transport.close()


class _sftp_errors:
    """Turns a failed transfer into an error that names it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, socket.timeout | EOFError | paramiko.SSHException):
            raise ConnectionLost(f"cannot {self._what}: {error or type(error).__name__}") from error
        if isinstance(error, OSError):
            raise InfrastructureError(f"cannot {self._what}: {error}") from error
