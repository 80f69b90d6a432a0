# SPDX-License-Identifier: MIT
"""subprocess, fork, and multiprocessing by fork, spawn and forkserver."""

import multiprocessing
import os
import signal
import subprocess
import sys


def square(number: int) -> int:
    return number * number


def send(end, how: str) -> None:  # type: ignore[no-untyped-def]
    end.send((how, os.getppid() > 0))
    end.close()


def main() -> None:
    print(subprocess.run(["echo", "x"], capture_output=True, check=True).stdout)
    with subprocess.Popen(["tr", "a-z", "A-Z"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        print(p.communicate(b"hello\n" * 3))
    print(subprocess.run("exit 3; echo no", shell=True, check=False).returncode)
    sleeper = subprocess.Popen(["sleep", "100"])
    sleeper.terminate()
    print(sleeper.wait() == -signal.SIGTERM)
    try:
        subprocess.run([sys.executable, "-c", "while True: pass"], timeout=0.5, check=False)
    except subprocess.TimeoutExpired:
        print("timeout")

    pid = os.fork()
    if pid == 0:
        os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    for how in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(how)
        with context.Pool(2) as pool:
            print(how, pool.map(square, range(10)))
        ours, theirs = context.Pipe()
        child = context.Process(target=send, args=(theirs, how))
        child.start()
        print(ours.recv())
        child.join()
        print(child.exitcode)
    counter = multiprocessing.get_context("fork").Value("i", 0)

    def count() -> None:
        for _ in range(200):
            with counter.get_lock():
                counter.value += 1

    children = [multiprocessing.get_context("fork").Process(target=count) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    print(counter.value)


if __name__ == "__main__":
    main()
