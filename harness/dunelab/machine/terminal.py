# SPDX-License-Identifier: MIT
"""A person's terminal, connected to a guest's shell."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType

import paramiko

from dunelab.errors import UsageError
from dunelab.machine.machine import Machine

_CHUNK = 4096
_LOOK_SECONDS = 0.5


def interact(machine: Machine, command: str | None = None) -> int:
    """Give the terminal to the guest's shell until it ends; returns its exit status."""
    if not sys.stdin.isatty():
        raise UsageError("standard input is no terminal", next_command="dunelab exec -- COMMAND")
    machine.resume()
    size = shutil.get_terminal_size()
    channel = machine.shell.interactive(command, size.columns, size.lines)
    with _raw_terminal(), _following_size(channel):
        _copy(machine, channel)
    return channel.recv_exit_status()


def _copy(machine: Machine, channel: paramiko.Channel) -> None:
    keyboard = sys.stdin.fileno()
    screen = sys.stdout.fileno()
    while True:
        ready, _, _ = select.select([channel, keyboard], [], [], _LOOK_SECONDS)
        machine.check()
        if channel in ready:
            data = channel.recv(_CHUNK)
            if not data:
                return
            os.write(screen, data)
        if keyboard in ready:
            typed = os.read(keyboard, _CHUNK)
            if not typed:
                return
            channel.sendall(typed)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin.fileno())
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _following_size(channel: paramiko.Channel) -> Iterator[None]:
    def resized(_number: int, _frame: FrameType | None) -> None:
        size = shutil.get_terminal_size()
        channel.resize_pty(width=size.columns, height=size.lines)

    before = signal.signal(signal.SIGWINCH, resized)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
