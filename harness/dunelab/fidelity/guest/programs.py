# SPDX-License-Identifier: MIT
"""Runs programs one after the other, saying how each ended as soon as it is there.

Runs in a guest: programs.py SECONDS COMMAND NAME...  COMMAND is what is run for each
name, with the name in the place of {}.  Events go where regrtest.py's go.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

EVENTS = os.environ.pop("DUNELAB_EVENTS", os.devnull)
WHY_CHARACTERS = 2000
# The Open POSIX Test Suite's "unsupported" and "untested", and automake's.
SKIPPED = (4, 5, 77)
# A test of the program's own that says how it ended, by a name and not a sentence.
TAP = re.compile(r"^(not )?ok \d+ ([\w.]+)( +# (SKIP|XFAIL).*)?$", re.MULTILINE)
# As libuv says it of the one test of a run, with a status of its own.
ONE_SKIPPED = re.compile(r"^ok 1 - \S+ # SKIP\b", re.MULTILINE)
LIBUV_SKIPPED = "status 7"


def say(**event):
    """Add one line."""
    with Path(EVENTS).open("a", encoding="utf-8") as sink:
        sink.write(json.dumps(event) + "\n")


def run(command, seconds, output):
    """How a command ended, and as what signal or status."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return "hung", f"killed after {seconds:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):  # with what it left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if status < 0:
        return "crashed", f"signal {-status}"
    if status in SKIPPED:
        return "skipped", f"status {status}"
    return ("ok", "") if status == 0 else ("failed", f"status {status}")


def main(seconds, command, names):
    """Run the command for each name."""
    for name in names:
        say(start=name)
        with tempfile.TemporaryFile() as output:
            outcome, why = run(shlex.split(command.replace("{}", name)), seconds, output)
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        sys.stdout.write(f"{name}: {outcome} {why}\n{said}")
        sys.stdout.flush()
        if (outcome == "ok" and "# SKIP" in said) or (
            why == LIBUV_SKIPPED and ONE_SKIPPED.search(said)
        ):
            outcome = "skipped"
        for bad, test, note, _word in TAP.findall(said):
            end = "skipped" if note else "failed" if bad else "ok"
            say(end=f"{name}:{test}", outcome=end, why=note)
        why = "" if outcome == "ok" else f"{why}\n{said[-WHY_CHARACTERS:]}"
        say(end=name, outcome=outcome, why=why)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3:])
