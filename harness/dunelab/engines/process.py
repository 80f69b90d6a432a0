# SPDX-License-Identifier: MIT
"""A child process that cannot outlive the harness.

``setpriv --pdeathsig`` asks the kernel to kill the emulator when its parent
dies, ``kill -9`` of the parent included.  Two traps are taken care of here:

* the "parent" of PR_SET_PDEATHSIG is the *thread* that forked, so every child
  is forked by one thread that lives as long as the interpreter;
* the child may be stopped (a paused Bochs): SIGKILL works on it all the same.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import DeadlineExpired, InfrastructureError


@functools.cache
def _spawner() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="dunelab-spawn")


def _setpriv() -> str:
    found = shutil.which("setpriv")
    if found is None:
        raise InfrastructureError(
            "setpriv is missing: without it an emulator could outlive the harness",
            next_command="apt-get install util-linux",
        )
    return found


class EngineProcess:
    """One emulator process, in its own process group, output in ``log``."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = tuple(argv)
        self.log = log
        leashed = [_setpriv(), "--pdeathsig", "KILL", "--", *argv]

        def fork() -> subprocess.Popen[bytes]:
            with log.open("ab") as out:
                return subprocess.Popen(
                    leashed,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    pass_fds=tuple(pass_fds),
                    env=None if env is None else {**os.environ, **env},
                    process_group=0,
                )

        try:
            self._child = _spawner().submit(fork).result()
        except OSError as error:
            raise InfrastructureError(f"cannot start {argv[0]}: {error}") from error

    @property
    def pid(self) -> int:
        return self._child.pid

    def poll(self) -> int | None:
        return self._child.poll()

    def wait(self, deadline: Deadline) -> int:
        try:
            return self._child.wait(timeout=deadline.remaining())
        except subprocess.TimeoutExpired as error:
            raise DeadlineExpired(
                f"{Path(self.argv[0]).name} (pid {self.pid}) did not end within "
                f"{deadline.seconds:.1f} s",
                evidence=self.log,
            ) from error

    def signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the group, then reap.  A process the kernel cannot end is left."""
        self.signal(signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=5)

    def output(self, limit: int = 4000) -> str:
        """The end of what the process printed."""
        try:
            data = self.log.read_bytes()
        except FileNotFoundError:
            return ""
        return data[-limit:].decode("utf-8", "replace")


def describe_exit(status: int) -> str:
    """An exit status in words: ``exit status 1`` or ``killed by SIGKILL``."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
