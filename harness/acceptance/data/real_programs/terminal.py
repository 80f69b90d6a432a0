# SPDX-License-Identifier: MIT
"""Talk to an interactive bash on a pseudo-terminal and print what it says."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

PROMPT = b"@PROMPT@ "
SECONDS = 60.0


def read_until(terminal: int, wanted: bytes) -> bytes:
    """What comes up to and with the wanted text."""
    text = b""
    end = time.monotonic() + SECONDS
    while wanted not in text:
        if not select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0]:
            sys.exit(f"no {wanted!r} in {text!r}")
        text += os.read(terminal, 4096)
    return text


def show(text: bytes) -> None:
    """Print it without what differs from run to run."""
    # Linux echoes a control character after it has sent the signal (isig() of n_tty.c),
    # so that on another CPU the shell may print its line feed first.
    plain = text.decode().replace("\x1a", "").replace("\x03", "")
    plain = plain.replace("\r\n", "\n").replace(PROMPT.decode(), "$ ")
    sys.stdout.write(re.sub(r"\[(\d)\]([+-]| \d{2,})", r"[\1]", plain))


def main() -> None:
    child, terminal = pty.fork()
    if child == 0:
        modes = termios.tcgetattr(0)
        modes[3] &= ~termios.ECHOCTL  # Ctrl-Z as the one character that it is, not as ^Z
        termios.tcsetattr(0, termios.TCSANOW, modes)
        env = {**os.environ, "PS1": PROMPT.decode(), "TERM": "dumb"}
        os.execvpe("bash", ["bash", "--norc", "--noediting", "--noprofile", "-i"], env)
    show(read_until(terminal, PROMPT))

    def say(line: str, wanted: bytes = PROMPT) -> None:
        os.write(terminal, line.encode())
        show(read_until(terminal, wanted))

    def press(key: str) -> None:
        """A control character, once the terminal is another program's than the shell's."""
        end = time.monotonic() + SECONDS
        while os.tcgetpgrp(terminal) == child:
            if time.monotonic() > end:
                sys.exit("the terminal stays with the shell")
            time.sleep(0.01)
        say(key)

    say("tty >/dev/null && echo on a terminal\n")
    say("bash -c 'echo begun; while :; do :; done'\n", b"begun\r\n")
    press("\x1a")  # Ctrl-Z: a program that computes
    say("jobs\n")
    say("bg\n")
    say("fg\n", b"done'\r\n")
    press("\x03")  # Ctrl-C
    say("echo $?\n")
    say("(echo waiting; exec sleep 1000)\n", b"waiting\r\n")
    press("\x1a")  # a program that sleeps
    say("kill -l $(($? - 128))\n")
    say("kill %1; sleep 1\n")
    say("wait %1; echo $?\n")
    say("cat\n", b"cat\r\n")
    say("typed\n", b"typed\r\ntyped\r\n")
    press("\x04")  # Ctrl-D
    # Stopped: it reads from the terminal.
    say("cat </dev/tty & until jobs %1 | grep -q Stopped; do sleep 0.1; done\n")
    say("kill -9 %1; sleep 1\n")
    say("jobs; stty size\n")
    say(
        "bash -c 'trap \"stty size; exit 3\" WINCH; echo ready; while :; do sleep 0.05; done'\n",
        b"ready\r\n",
    )
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 33, 99, 0, 0))
    show(read_until(terminal, PROMPT))
    say("exit 5\n", b"exit\r\n")
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status))


main()
