# SPDX-License-Identifier: MIT
"""``dunelab exec``: run anything in a guest with dune.ko loaded."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from dunelab.cli.session import add_machine_arguments, add_session_arguments, guest
from dunelab.deadline import Deadline
from dunelab.dune.guest import load_module
from dunelab.errors import UsageError

NAME = "exec"
HELP = """Run a command in a fresh guest with dune.ko loaded; its output comes live and
its exit status is returned.

  dunelab exec --engine tcg --vendor amd --push ./prog -- ./prog 1 2
  dunelab exec --vendor intel -- 'dmesg | grep dune'

Several words are one command and its arguments; a single word is shell text."""
TAKES_REST = True

GUEST_HOME = "/root"
_COMMAND_SECONDS = 600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab exec``."""
    add_machine_arguments(parser)
    parser.add_argument(
        "--push",
        nargs="+",
        action="extend",
        type=Path,
        default=[],
        metavar="FILE",
        help=f"copy files into the guest's {GUEST_HOME}, where the command runs",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=_COMMAND_SECONDS,
        metavar="S",
        help=f"seconds the command may take (default: {_COMMAND_SECONDS:.0f})",
    )
    add_session_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Boot, load, push, run, stream, power off."""
    if not args.rest:
        raise UsageError("no command: dunelab exec [options] -- COMMAND [argument ...]")
    for path in args.push:
        if not path.is_file():
            raise UsageError(f"--push {path}: there is no such file")
    command = command_text(args.rest)
    with guest(args) as machine:
        if not args.no_module:
            load_module(machine)
        for path in args.push:
            executable = path.stat().st_mode & 0o111
            machine.push(path, f"{GUEST_HOME}/{path.name}", 0o755 if executable else 0o644)
        result = machine.run(
            f"cd {GUEST_HOME} && {command}",
            Deadline.after(args.timeout, f"end of {command!r}"),
            sink=to_terminal,
        )
    return result.exit_status


def command_text(words: list[str]) -> str:
    """Words as text for the guest's shell."""
    return words[0] if len(words) == 1 else shlex.join(words)


def to_terminal(stream: str, text: str) -> None:
    """Pass a piece of the guest's output on."""
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.write(text)
    target.flush()
