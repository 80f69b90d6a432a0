# SPDX-License-Identifier: MIT
"""``dunelab show-command``: the exact emulator command line, started by nobody."""

from __future__ import annotations

import argparse
from pathlib import Path

from dunelab.cli.session import add_machine_arguments, progress_on_stderr, request

NAME = "show-command"
HELP = """Print what would be started, fit for a shell, and start nothing.

For QEMU the console is put on the terminal (dunelab itself passes it, and the
monitor, over socket pairs); for Bochs the configuration files come first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab show-command``."""
    add_machine_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Print the command line."""
    with progress_on_stderr(args.quiet) as progress:
        asked = request(args, Path.cwd(), progress)
        text = asked.engine.command_line(asked.spec)
    print(text)
    return 0
