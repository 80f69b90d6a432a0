# SPDX-License-Identifier: MIT
"""Whether processes that a test does not wait for have ended.

A signal to them is sent, not yet obeyed, when the call that sends it returns: a test that
looks once sees on a busy machine a process that is still to die.
"""

from __future__ import annotations

import time
from pathlib import Path


def gone(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has still to collect."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def wait_gone(pid: int, seconds: float = 10) -> bool:
    """Whether it is gone within that many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if gone(pid):
            return True
        time.sleep(0.05)
    return False
