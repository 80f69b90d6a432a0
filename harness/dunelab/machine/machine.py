# SPDX-License-Identifier: MIT
"""A booted guest that runs commands.  Verbs read as sentences."""

from __future__ import annotations

import contextlib
import itertools
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from dunelab.deadline import Deadline
from dunelab.engines.base import Engine, Instance
from dunelab.engines.process import describe_exit
from dunelab.errors import BootFailed, DeadlineExpired, DunelabError, GuestDied, InfrastructureError
from dunelab.machine.console import Console, Mark
from dunelab.machine.ssh import ConnectionLost, GuestShell, OutputSink, Overran
from dunelab.machine.watch import CommandTimeout, GuestCrashed, SplatFinder, Watch
from dunelab.spec import CommandResult, EngineFacts, MachineSpec

READY = r"^dunelab: ready"
"""What the guest's init prints on the console once its SSH server listens."""

Progress = Callable[[str], None]

_PROBE_SECONDS = 15.0
_RUN_VARIABLE = "DUNELAB_RUN"
_DEATH_RATTLE_SECONDS = 5.0


def _silent(_text: str) -> None:
    return None


class Machine:
    """One running guest.  A context manager: leaving it ends the guest."""

    def __init__(self, instance: Instance, spec: MachineSpec, finder: SplatFinder | None) -> None:
        self.spec = spec
        self.console = Console(instance.console_fd, spec.workdir / "console.log")
        self.boot_seconds = 0.0
        self.restored = False
        self._instance = instance
        self._watch = Watch(instance, self.console, finder)
        self._shell = GuestShell(instance.ssh_address, spec.image.ssh_user, spec.image.ssh_key)
        self._runs = itertools.count(1)
        self._paused = False
        self._ended = False

    @classmethod
    def boot(
        cls,
        engine: Engine,
        spec: MachineSpec,
        deadline: Deadline,
        splat_finder: SplatFinder | None = None,
        progress: Progress = _silent,
        restore_from: Path | None = None,
    ) -> Machine:
        """Start a guest and return once it runs commands.

        Raises GuestCrashed when it splats on the way, BootFailed when it never
        gets there, EngineFailed when the emulator does not start.
        """
        started = time.monotonic()
        progress(f"starting {spec.cell}")
        instance = engine.start(spec, deadline, restore_from)
        machine: Machine | None = None
        try:
            machine = cls(instance, spec, splat_finder)
            machine.restored = restore_from is not None
            machine._await_ready(deadline, progress)
        except BaseException:
            instance.kill()
            if machine is not None:
                machine.kill()
            raise
        machine.boot_seconds = time.monotonic() - started
        progress(f"{spec.cell}: up after {machine.boot_seconds:.1f} s")
        return machine

    @property
    def facts(self) -> EngineFacts:
        """What really runs this guest."""
        return self._instance.facts

    @property
    def instance(self) -> Instance:
        return self._instance

    @property
    def alive(self) -> bool:
        """Whether the guest's emulator runs and its console shows no fatal splat."""
        if self._ended:
            return False
        try:
            self._watch.check()
        except GuestDied:
            return False
        return True

    def check(self) -> None:
        """Raise GuestCrashed if the guest is dead."""
        self._watch.check()

    def run(
        self,
        command: str,
        deadline: Deadline,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        sink: OutputSink | None = None,
    ) -> CommandResult:
        """Run a shell command in the guest and wait for its end.

        ``check`` turns a status other than 0 into an AssertionError.  Raises
        GuestCrashed at once when the guest dies or proves to hang, and
        CommandTimeout when only the command does; its processes are killed.
        """
        self.resume()
        tag = str(next(self._runs))
        tagged = {**(env or {}), _RUN_VARIABLE: tag}
        try:
            result = self._shell.run(
                command, deadline, env=tagged, sink=sink, abort=self._watch.check
            )
        except Overran as error:
            raise self._verdict_on_silence(command, tag, deadline) from error
        except ConnectionLost as error:
            raise self._verdict_on_loss(error) from error
        if check and result.exit_status != 0:
            raise AssertionError(_unexpected(result, "exit status 0"))
        return result

    def succeed(self, command: str, deadline: Deadline | None = None) -> str:
        """Run ``command``, demand exit status 0, return its standard output."""
        return self.run(command, deadline or _usual(command), check=True).stdout

    def fail(self, command: str, deadline: Deadline | None = None) -> str:
        """Run ``command``, demand any other status, return its standard output."""
        result = self.run(command, deadline or _usual(command))
        if result.exit_status == 0:
            raise AssertionError(_unexpected(result, "a failure"))
        return result.stdout

    def push(
        self, local: Path, remote: str, mode: int = 0o755, deadline: Deadline | None = None
    ) -> None:
        """Copy a file into the guest."""
        self._transfer(lambda until: self._shell.put(local, remote, mode, until), deadline)

    def pull(self, remote: str, local: Path, deadline: Deadline | None = None) -> None:
        """Copy a file out of the guest."""
        self._transfer(lambda until: self._shell.get(remote, local, until), deadline)

    def mark(self, text: str) -> Mark:
        """Write a line to the kernel log; returns the console's position before it.

        The level is critical, so that ``quiet`` guests show it too.
        """
        position = self.console.mark()
        line = shlex.quote(f"<2>dunelab: {text}")
        self.run(f"echo {line} > /dev/kmsg", Deadline.after(30, "the kernel log"), check=True)
        return position

    def wait_for_console(self, pattern: str, deadline: Deadline, since: Mark = 0) -> str:
        """Wait until the console says ``pattern``; returns the matching text."""
        self.resume()
        found = self.console.wait_for(pattern, deadline, since=since, abort=self._watch.check)
        return found.group(0)

    @property
    def watch(self) -> Watch:
        return self._watch

    @property
    def shell(self) -> GuestShell:
        """The kept connection, for interactive use."""
        return self._shell

    def pause(self) -> None:
        """Stop the guest's clock and its use of the host's CPUs."""
        if not self._paused and not self._ended:
            self._instance.pause()
            self._paused = True

    def resume(self) -> None:
        """Let a paused guest go on.  Every verb does this by itself."""
        if self._paused:
            self._instance.resume()
            self._paused = False

    def save(self, path: Path, deadline: Deadline) -> None:
        """Write the guest's state to a file, without an open SSH connection in it."""
        self.resume()
        self._shell.close()
        self._instance.save(path, deadline)

    def power_off(self, deadline: Deadline | None = None) -> None:
        """Shut the guest down from inside; a panic on the way out is still a panic."""
        if self._ended:
            return
        until = deadline or Deadline.after(20, "power-off")
        try:
            self.resume()
            self._watch.check()
            self._watch.expect_end()
            with contextlib.suppress(ConnectionLost, Overran):
                self._shell.run("sync; poweroff -f", until, abort=self._stop_waiting_when_ended)
            with contextlib.suppress(DeadlineExpired):
                self._instance.wait(until)
            self._watch.check()
            if self._instance.poll() is None:
                self._instance.power_off(Deadline.after(5, "the emulator's end"))
        finally:
            self.kill()

    def kill(self) -> None:
        """End the guest at once."""
        self._ended = True
        self._watch.expect_end()
        self._instance.kill()
        self._shell.close()
        self.console.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.power_off()
        else:
            self.kill()

    def _await_ready(self, deadline: Deadline, progress: Progress) -> None:
        try:
            if not self.restored:
                self.console.wait_for(READY, deadline, abort=self._watch.check)
                progress(f"{self.spec.cell}: SSH server listens")
            self._shell.connect(deadline, self._watch.check)
            if self.restored:
                # The guest's clock stands where it stood when it was saved.
                self.run(f"date -s @{int(time.time())}", deadline, check=True)
        except GuestCrashed as death:
            if death.kind == "exited":
                raise self._boot_failed(death.what) from death
            raise
        except (DeadlineExpired, InfrastructureError) as error:
            raise self._boot_failed(error.what) from error

    def _boot_failed(self, why: str) -> BootFailed:
        status = self._instance.poll()
        process = (
            f"still runs (pid {self._instance.pid})"
            if status is None
            else f"ended with {describe_exit(status)}"
        )
        tail = self.console.tail(15) or "(the console said nothing)"
        said = self._instance.diagnostics().strip() or "(nothing)"
        return BootFailed(
            f"{self.spec.cell} did not boot: {why}\nits emulator {process} and said: {said}\n"
            f"last console lines:\n{tail}",
            evidence=self.console.log,
        )

    def _verdict_on_silence(self, command: str, tag: str, deadline: Deadline) -> DunelabError:
        """Whose fault is it that a command did not end: its own, or the guest's?"""
        probe = Deadline.after(_PROBE_SECONDS, "an answer to a probe command")
        # The shell itself carries the variable only in its memory; what it
        # started has it in its environment.
        reap = (
            f"for p in $(grep -lsa '{_RUN_VARIABLE}={tag}' /proc/[0-9]*/environ); do "
            f"p=${{p#/proc/}}; kill -9 ${{p%/environ}}; done"
        )
        try:
            self._shell.run(reap, probe, abort=self._watch.check)
        except (Overran, InfrastructureError):
            self._shell.close()
            return self._watch.hung(
                f"no answer to {command!r} within {deadline.seconds:.1f} s, nor to a probe "
                f"command within {_PROBE_SECONDS:.0f} s more"
            )
        except GuestCrashed as death:
            return death
        return CommandTimeout(
            f"{command!r} did not end within {deadline.seconds:.1f} s; the guest is alive, "
            "the command's processes were killed",
            evidence=self.console.log,
        )

    def _verdict_on_loss(self, error: ConnectionLost) -> DunelabError:
        """A broken connection is most often the first sign of a dying guest."""
        wait = Deadline.after(_DEATH_RATTLE_SECONDS, "the reason of a lost connection")
        try:
            while not wait.expired:
                self._watch.check()
                self.console.wait_growth(self.console.mark(), 0.2)
            self._shell.connect(Deadline.after(_PROBE_SECONDS, "SSH again"), self._watch.check)
        except GuestCrashed as death:
            return death
        except InfrastructureError:
            return self._watch.hung(f"{error.what}, and no connection can be made again")
        return error

    def _transfer(self, work: Callable[[Deadline], None], deadline: Deadline | None) -> None:
        self.resume()
        until = deadline or Deadline.after(60, "a file transfer")
        if not self._shell.connected:
            self._shell.connect(until, self._watch.check)
        try:
            work(until)
        except ConnectionLost as error:
            raise self._verdict_on_loss(error) from error

    def _stop_waiting_when_ended(self) -> None:
        self._watch.check()
        if self._instance.poll() is not None:
            raise ConnectionLost("the guest powered off")


def _usual(command: str) -> Deadline:
    return Deadline.after(60, f"end of {command!r}")


def _unexpected(result: CommandResult, wanted: str) -> str:
    return (
        f"{result.argv!r} ended with status {result.exit_status}, wanted {wanted}\n"
        f"stdout: {result.stdout.strip()}\nstderr: {result.stderr.strip()}"
    )
