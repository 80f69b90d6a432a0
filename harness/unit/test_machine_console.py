# SPDX-License-Identifier: MIT
"""The console: recorded from the first byte, waited on with an abort."""

from __future__ import annotations

import os
import pty
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.errors import DeadlineExpired
from dunelab.machine.console import Console


class Line:
    """A console and the guest's end of it."""

    def __init__(self, folder: Path) -> None:
        self.near, self.far = socket.socketpair()
        self.console = Console(self.near.fileno(), folder / "console.log")

    def say(self, text: str) -> None:
        self.far.sendall(text.encode())


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.far.close()
    made.console.close()
    made.near.close()


def soon(what: str = "the test") -> Deadline:
    return Deadline.after(10, what)


def test_the_descriptor_may_be_closed_under_it(line: Line) -> None:
    """The number may be another file's at once: not a byte of that is read."""
    number = line.near.fileno()
    line.near.close()
    mine, yours = socket.socketpair()
    assert number in (mine.fileno(), yours.fileno())
    with mine, yours:
        for end, other in ((mine, yours), (yours, mine)):
            end.sendall(b"not the console")
            seen = line.console.mark()
            line.say("more\n")
            line.console.wait_for("more", soon(), since=seen)
            assert other.recv(100) == b"not the console"
    assert "not" not in line.console.text()


def test_a_wait_ends_with_the_text(line: Line) -> None:
    threading.Timer(0.1, line.say, ["noise\r\ndunelab: ready\r\n"]).start()
    match = line.console.wait_for(r"^dunelab: (\w+)", soon())
    assert match.group(1) == "ready"
    assert "\r" not in line.console.text()


def test_text_in_pieces(line: Line) -> None:
    line.say("dunelab: re")
    line.console.wait_for("dunelab: re", soon())
    line.say("ady\n")
    line.console.wait_for("^dunelab: ready$", soon())


def test_the_log_has_every_byte(line: Line) -> None:
    line.say("one\r\ntwo\r\n")
    line.console.wait_for("two", soon())
    assert line.console.log.read_bytes() == b"one\r\ntwo\r\n"


def test_a_wait_has_a_deadline_and_says_for_what(line: Line) -> None:
    with pytest.raises(DeadlineExpired, match=r"no ready line within 0\.2 s"):
        line.console.wait_for("ready", Deadline.after(0.2, "ready line"))


def test_an_abort_ends_the_wait_at_once(line: Line) -> None:
    def abort() -> None:
        if "panic" in line.console.text():
            raise RuntimeError("the guest is dead")

    threading.Timer(0.1, line.say, ["panic\n"]).start()
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="dead"):
        line.console.wait_for("ready", soon(), abort=abort)
    assert time.monotonic() - started < 5


def test_abort_is_asked_while_the_console_is_silent(line: Line) -> None:
    until = time.monotonic() + 0.3

    def abort() -> None:
        if time.monotonic() > until:
            raise RuntimeError("the process ended")

    with pytest.raises(RuntimeError):
        line.console.wait_for("ready", soon(), abort=abort)


def test_what_was_said_counts_before_the_abort(line: Line) -> None:
    line.say("ready\n")
    line.console.wait_for("ready", soon())

    def abort() -> None:
        raise RuntimeError

    line.console.wait_for("ready", soon(), abort=abort)


def test_marks_divide_the_text(line: Line) -> None:
    line.say("before\n")
    line.console.wait_for("before\n", soon())
    mark = line.console.mark()
    line.say("after\n")
    line.console.wait_for("after\n", soon())
    assert line.console.since(mark) == "after\n"
    with pytest.raises(DeadlineExpired):
        line.console.wait_for("before", Deadline.after(0.1, "x"), since=mark)


def test_the_end_of_the_other_side(line: Line) -> None:
    line.say("last words\n")
    line.far.close()
    line.console.settle(1, soon())
    assert line.console.text() == "last words\n"
    assert line.console.ended
    assert line.console.tail(1) == "last words"


def test_close_is_quick_and_may_be_repeated(line: Line) -> None:
    started = time.monotonic()
    line.console.close()
    line.console.close()
    assert time.monotonic() - started < 1


def test_typing(line: Line) -> None:
    line.console.send(b"hello")
    assert line.far.recv(100) == b"hello"


def test_a_dialogue_by_pexpect(line: Line) -> None:
    talk = line.console.dialogue()
    line.say("login: ")
    talk.expect("login: ", timeout=10)
    talk.sendline("root")
    assert line.far.recv(100) == b"root\n"
    line.say("uid=0(root)\r\n# ")
    talk.expect(r"uid=(\d+)", timeout=10)
    assert talk.match.group(1) == "0"


def test_a_dialogue_sees_the_end(line: Line) -> None:
    import pexpect

    talk = line.console.dialogue()
    line.far.close()
    with pytest.raises(pexpect.EOF):
        talk.expect("never", timeout=10)


def test_a_dialogue_has_a_timeout(line: Line) -> None:
    import pexpect

    with pytest.raises(pexpect.TIMEOUT):
        line.console.dialogue().expect("never", timeout=0.2)


def test_a_pseudo_terminal_whose_owner_is_gone(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    console = Console(master, tmp_path / "log")
    os.write(slave, b"tty\n")
    console.wait_for("tty", soon())
    os.close(slave)
    console.settle(1, soon())
    assert console.ended
    console.close()
    os.close(master)
