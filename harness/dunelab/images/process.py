# SPDX-License-Identifier: MIT
"""Running host tools: every one with a deadline and a kept log."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, DeadlineExpired, InfrastructureError

_KILL_SECONDS = 5.0


def missing_tool(tool: str, package: str) -> InfrastructureError:
    """The error for a host tool that is not installed."""
    return InfrastructureError(
        f"{tool} is not installed", next_command=f"sudo apt-get install {package}"
    )


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process started in its own session, with all its children."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        # The leader is gone; whatever of its group ignored SIGTERM goes now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return
    raise InfrastructureError(f"process {process.pid} does not die")


def run(
    argv: Sequence[str],
    *,
    log: Path,
    deadline: Deadline,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: IO[bytes] | None = None,
    next_command: str | None = None,
) -> None:
    """Run ``argv``, append what it prints to ``log``; raise when it fails.

    ``stdout`` redirects its standard output; errors still go to the log.
    """
    with log.open("ab") as sink:
        sink.write(f"$ {shlex.join(argv)}\n".encode())
        sink.flush()
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout if stdout is not None else sink,
                stderr=sink,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise missing_tool(argv[0], Path(argv[0]).name) from error
        try:
            status = process.wait(timeout=deadline.remaining())
        except subprocess.TimeoutExpired as error:
            raise DeadlineExpired(
                f"{what} did not end within {deadline.seconds:.0f} s", evidence=log
            ) from error
        finally:
            if process.poll() is None:
                stop_group(process)
    if status != 0:
        raise BuildFailed(
            f"{what} failed with status {status}: {last_words(log)}",
            evidence=log,
            next_command=next_command,
        )


def capture(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    what: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    next_command: str | None = None,
    with_errors: bool = False,
) -> str:
    """Run a short query and return its standard output (and error) as text."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=deadline.remaining(),
            env=None if env is None else dict(env),
            cwd=cwd,
            check=False,
        )
    except FileNotFoundError as error:
        raise missing_tool(argv[0], Path(argv[0]).name) from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineExpired(f"{what} did not end within {deadline.seconds:.0f} s") from error
    if done.returncode != 0:
        message = done.stderr.decode(errors="replace").strip() or "no message"
        raise InfrastructureError(
            f"{what} failed with status {done.returncode}: {message}", next_command=next_command
        )
    output = done.stdout + done.stderr if with_errors else done.stdout
    return output.decode(errors="replace")


def last_words(log: Path, lines: int = 3) -> str:
    """What to quote of a log: a compiler's first error, else the log's end."""
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in text:
        if re.search(r"\b(fatal )?error:|^ERROR: modpost:", line):
            return line.strip()
    return " | ".join(line.strip() for line in text[-lines:] if line.strip())
