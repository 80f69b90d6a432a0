# SPDX-License-Identifier: MIT
"""``dunelab shell``: a terminal in a guest with dune.ko loaded."""

from __future__ import annotations

import argparse

from dunelab.cli.session import add_machine_arguments, add_session_arguments, guest
from dunelab.dune.guest import load_module
from dunelab.machine.terminal import interact

NAME = "shell"
HELP = "Open a terminal in a fresh guest; leaving the shell ends the guest."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab shell``."""
    add_machine_arguments(parser)
    add_session_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Boot, load, hand over the terminal."""
    with guest(args) as machine:
        if not args.no_module:
            load_module(machine)
        return interact(machine)
