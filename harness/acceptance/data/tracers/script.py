# SPDX-License-Identifier: MIT
"""What Python does, for strace: files, a signal, children, an error."""

import mmap
import os
import signal
import subprocess
import sys

signal.signal(signal.SIGUSR1, lambda number, frame: print("signal", number))
os.kill(os.getpid(), signal.SIGUSR1)

with open("file", "w+b") as file:
    file.write(b"x" * 10000)
    file.flush()
    with mmap.mmap(file.fileno(), 10000) as memory:
        memory[:3] = b"abc"
    file.seek(0)
    print(file.read(5))
os.unlink("file")

child = os.fork()
if child == 0:
    signal.sigtimedwait([], 0.3)
    os._exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(subprocess.run(["sh", "-c", "sleep 0.3; exit 5"]).returncode)
try:
    subprocess.run(["/no/such/program"])
except FileNotFoundError as error:
    print(error.errno)
sys.exit(6)
