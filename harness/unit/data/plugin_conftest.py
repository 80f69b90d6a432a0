# SPDX-License-Identifier: MIT
"""conftest.py of the plugin's own tests: guests that are a few lines of Python.

A "program" is a JSON file: what it prints, its exit status, what the kernel
says meanwhile or later, and whether the guest survives it: ``dies`` says what of,
``deaths`` how often, always if it does not.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from dunelab.errors import BootFailed, BuildFailed, EngineUnavailable, GuestDied
from dunelab.machine.watch import GuestCrashed
from dunelab.pytest_support.lab import Booted, Builds, Verdict
from dunelab.pytest_support.runner import GUEST_FOLDER
from dunelab.results.splat import find_splats
from dunelab.spec import CommandResult, EngineFacts, EngineName, Unit, Vendor

ROOT = Path(__file__).parent


def note(text):
    """Append to a journal that the outer test reads."""
    with (ROOT / "journal.txt").open("a") as journal:
        journal.write(f"{os.getpid()} {text}\n")


def journal():
    """What was noted so far."""
    path = ROOT / "journal.txt"
    return path.read_text() if path.exists() else ""


class FakeConsole:
    def __init__(self):
        self.content = "[    0.100000] Linux version fake\n"

    def text(self):
        return self.content

    def mark(self):
        return len(self.content)

    def since(self, mark):
        return self.content[mark:]


class FakeMachine:
    def __init__(self, cell, variant):
        self.console = FakeConsole()
        self.name = f"{cell}/{variant}"
        self.facts = EngineFacts(
            cell.engine, f"fake-{cell.engine}", "fake 1", cell.vendor, "fake cpu", Unit.TICKS
        )
        self.alive = True
        self.boot_seconds = 0.25
        self.files = {}

    def say(self, text):
        for line in text.splitlines():
            self.console.content += f"[    1.000000] {line}\n"

    def run(self, command, deadline, env=None):
        if not self.alive:
            raise GuestDied("the guest is dead already")
        program = next((name for name in self.files if name in command), None)
        if program is None:
            return CommandResult(command, 0, "", "", 0.0)
        script = json.loads(self.files[program])
        died = journal().count(f"death of {program}")
        if died < script.get("deaths", died + 1):
            self.say(script.get("kernel", ""))
            if script.get("dies"):
                self.die(program, script["dies"])
        return CommandResult(
            command, script.get("status", 0), script.get("stdout", ""), "stderr text", 0.1
        )

    def die(self, program, of):
        note(f"death of {program}")
        self.alive = False
        raise GuestCrashed(
            *("panic", f"the guest died: {of}"),
            console_log=ROOT / "console.log",
            splats=find_splats(self.console.content),
        )

    def push(self, local, remote, mode=0o755):
        self.files[remote.removeprefix(f"{GUEST_FOLDER}/")] = Path(local).read_text()

    def mark(self, text):
        position = self.console.mark()
        if not self.alive:
            raise GuestDied("the guest is dead already")
        self.say(f"dunelab: {text}")
        if (ROOT / "late.txt").exists() and text.startswith("end "):
            self.say((ROOT / "late.txt").read_text())
            (ROOT / "late.txt").unlink()
        return position

    def wait_for_console(self, pattern, deadline, since=0):
        return re.search(pattern, self.console.since(since)).group(0)

    def pause(self):
        note(f"pause {self.name}")

    def resume(self):
        pass

    def power_off(self, deadline=None):
        note(f"off {self.name}")
        self.alive = False

    def kill(self):
        note(f"kill {self.name}")
        self.alive = False


class FakeLab:
    def kernels(self):
        return ("k1", "k2")

    def kernel_id(self, word):
        return word

    def is_own_kernel(self, kernel):
        return kernel.startswith("own-")

    def default_kernel(self):
        return "k1"

    def pick(self, vendor):
        return EngineName.TCG if vendor is Vendor.AMD else EngineName.BOCHS

    def host_vendors(self):
        return (Vendor.INTEL,)

    def check(self, engine, vendor):
        if engine is EngineName.KVM:
            return Verdict(False, "/dev/kvm does not nest", "sudo modprobe kvm_intel nested=1")
        return Verdict(True, "fine")

    def boot(self, cell, variant, fresh):
        if (ROOT / "noboot.txt").exists():
            raise BootFailed(
                "no sign of life", evidence="console.log", next_command="dunelab doctor"
            )
        if (ROOT / "noengine.txt").exists():
            raise EngineUnavailable("qemu is missing", next_command="apt-get install qemu")
        note(f"boot {cell}/{variant}")
        if (ROOT / "nobuild.txt").exists():
            raise BuildFailed("gcc said no", evidence="build.log")
        builds = Builds("6.12.0-fake", "aa11", "bb22", {})
        machine = FakeMachine(cell, variant)
        left = ROOT / "left.txt"
        return Booted(
            *(machine, builds, None, "fake --machine", ROOT, "ssh -p 1 fake"),
            last_check=lambda: left.read_text() if left.exists() else "",
        )

    def program(self, name):
        return ROOT / "programs" / f"{name}.json"

    def libraries(self):
        return ()


def pytest_dunelab_lab(config):
    return FakeLab()
