# SPDX-License-Identifier: MIT
"""A machine's verbs and verdicts, on a fake emulator and a real SSH server."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine_fakes import FakeEngine, FakeGuest, FakeInstance, fake_guest, fake_spec, find_panics

from dunelab.deadline import Deadline
from dunelab.errors import BootFailed, GuestDied, InfrastructureError
from dunelab.machine import machine as machine_module
from dunelab.machine.machine import Machine
from dunelab.machine.states import boot_or_restore
from dunelab.machine.watch import CommandTimeout, GuestCrashed
from dunelab.spec import MachineSpec


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[FakeGuest]:
    with fake_guest(tmp_path) as made:
        yield made


@pytest.fixture
def engine(guest: FakeGuest) -> Iterator[FakeEngine]:
    made = FakeEngine(guest.port)
    yield made
    for instance in made.started:
        assert instance.poll() is not None, "a test left an emulator running"


@pytest.fixture
def spec(tmp_path: Path, guest: FakeGuest) -> MachineSpec:
    return fake_spec(tmp_path / "work", guest.key)


@pytest.fixture
def machine(engine: FakeEngine, guest: FakeGuest, spec: MachineSpec) -> Iterator[Machine]:
    made = Machine.boot(engine, spec, soon(), find_panics)
    guest.on_poweroff = made.instance.kill
    yield made
    made.kill()


def soon(seconds: float = 20) -> Deadline:
    return Deadline.after(seconds, "the test")


def test_a_command_with_output_status_and_environment(machine: Machine) -> None:
    result = machine.run('echo "$GREETING"; echo bad >&2; exit 42', soon(), env={"GREETING": "a b"})
    assert (result.stdout, result.stderr, result.exit_status) == ("a b\n", "bad\n", 42)


def test_output_streams_while_the_command_runs(machine: Machine) -> None:
    seen: list[tuple[str, float]] = []
    machine.run(
        "echo first; sleep 1; echo second",
        soon(),
        sink=lambda stream, text: seen.append((text, time.monotonic())),
    )
    assert [text for text, _at in seen] == ["first\n", "second\n"]
    assert seen[1][1] - seen[0][1] > 0.5


def test_one_connection_is_kept(machine: Machine, guest: FakeGuest) -> None:
    for _ in range(3):
        machine.succeed("true")
    assert len(guest._transports) == 1


def test_verbs_that_demand(machine: Machine) -> None:
    assert machine.succeed("echo yes") == "yes\n"
    assert machine.fail("echo no; false") == "no\n"
    with pytest.raises(AssertionError, match=r"status 1, wanted exit status 0\n.*\n?stderr: why"):
        machine.succeed("echo why >&2; exit 1")
    with pytest.raises(AssertionError, match="wanted a failure"):
        machine.fail("true")


def test_files_both_ways(machine: Machine, tmp_path: Path) -> None:
    source = tmp_path / "prog"
    source.write_bytes(bytes(range(256)) * 1000)
    machine.push(source, str(tmp_path / "there"))
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755
    machine.pull(str(tmp_path / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    with pytest.raises(InfrastructureError, match="cannot pull"):
        machine.pull(str(tmp_path / "absent"), tmp_path / "back")


def test_a_panic_is_seen_at_once_and_not_at_the_deadline(
    machine: Machine, engine: FakeEngine
) -> None:
    started = time.monotonic()
    machine.run("true", soon())
    engine.started[0].say_more()
    with pytest.raises(GuestCrashed) as caught:
        machine.run("sleep 30", soon(30))
    assert time.monotonic() - started < 10
    assert caught.value.kind == "panic"
    assert caught.value.splats[0].title == "Kernel panic - not syncing: test of the alarm"
    assert "test of the alarm" in str(caught.value)
    assert str(machine.console.log) in str(caught.value)
    assert not machine.alive


def test_an_emulator_that_vanishes(machine: Machine, engine: FakeEngine) -> None:
    engine.started[0].process.signal(signal.SIGKILL)
    with pytest.raises(GuestCrashed, match="killed by SIGKILL") as caught:
        machine.run("sleep 30", soon(30))
    assert caught.value.kind == "exited"
    assert "emulator speaking" in str(caught.value)


def test_a_hanging_guest(
    machine: Machine, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "_PROBE_SECONDS", 0.5)
    guest.deaf = True
    with pytest.raises(GuestCrashed, match="nor to a probe command") as caught:
        machine.run("true", soon(0.5))
    assert caught.value.kind == "hung"
    assert isinstance(caught.value, GuestDied)


def test_a_guest_that_stands_still_is_waited_for_no_longer_than_asked(
    machine: Machine, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "_PROBE_SECONDS", 0.5)
    machine.succeed("true")
    guest.stuck.set()
    with pytest.raises(GuestCrashed, match="nor to a probe command") as caught:
        machine.run("true", soon(0.5))
    assert caught.value.kind == "hung"


def test_a_transfer_to_a_guest_that_stands_still_ends(
    machine: Machine, guest: FakeGuest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "_DEATH_RATTLE_SECONDS", 0.5)
    source = tmp_path / "source"
    source.write_text("content")
    machine.succeed("true")
    guest.stuck.set()
    with pytest.raises(InfrastructureError, match="cannot push"):
        machine.push(source, str(tmp_path / "copy"), deadline=soon(0.5))


def test_a_hanging_command_in_a_living_guest(machine: Machine, guest: FakeGuest) -> None:
    with pytest.raises(CommandTimeout, match="the guest is alive") as caught:
        machine.run("sleep 3", soon(0.5))
    assert not isinstance(caught.value, GuestDied | InfrastructureError)
    assert "DUNELAB_RUN=1" in guest.commands[-1], "its processes are looked for by their mark"
    assert machine.succeed("echo on") == "on\n"


def test_a_lost_connection_to_a_living_guest_is_the_benchs_fault(
    machine: Machine, guest: FakeGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "_DEATH_RATTLE_SECONDS", 0.5)
    import threading

    machine.succeed("true")
    threading.Timer(0.5, guest.hang_up).start()
    with pytest.raises(InfrastructureError, match="connection broke"):
        machine.run("sleep 30", soon(30))
    assert machine.succeed("echo again") == "again\n"


def test_a_lost_connection_and_a_panic_are_one_death(
    machine: Machine, guest: FakeGuest, engine: FakeEngine
) -> None:
    import threading

    machine.succeed("true")
    threading.Timer(0.3, guest.hang_up).start()
    threading.Timer(1.0, engine.started[0].say_more).start()
    with pytest.raises(GuestCrashed, match="test of the alarm"):
        machine.run("sleep 30", soon(30))


def test_pause_ends_with_the_next_verb(machine: Machine) -> None:
    instance = machine.instance
    assert isinstance(instance, FakeInstance)
    machine.pause()
    assert instance.paused
    machine.succeed("true")
    assert not instance.paused


def test_power_off_ends_everything(machine: Machine) -> None:
    with machine:
        pass
    assert machine.instance.poll() is not None
    assert not machine.alive
    machine.power_off()


def test_an_exception_inside_ends_everything_too(machine: Machine) -> None:
    with pytest.raises(KeyboardInterrupt), machine:
        raise KeyboardInterrupt
    assert machine.instance.poll() is not None


def test_a_guest_that_never_boots(engine: FakeEngine, spec: MachineSpec) -> None:
    engine.first = "some BIOS text\n"
    with pytest.raises(BootFailed) as caught:
        Machine.boot(engine, spec, soon(0.7), find_panics)
    for evidence in ("some BIOS text", "still runs", "emulator speaking", "console.log"):
        assert evidence in str(caught.value)


def test_an_emulator_that_ends_before_ready(engine: FakeEngine, spec: MachineSpec) -> None:
    engine.first, engine.status = "half a boot\n", "3"
    started = time.monotonic()
    with pytest.raises(BootFailed, match="exit status 3") as caught:
        Machine.boot(engine, spec, soon(60), find_panics)
    assert "half a boot" in str(caught.value)
    assert time.monotonic() - started < 20


def test_a_panic_while_booting_is_a_dead_guest(engine: FakeEngine, spec: MachineSpec) -> None:
    engine.first = engine.second
    with pytest.raises(GuestCrashed, match="test of the alarm"):
        Machine.boot(engine, spec, soon(30), find_panics)


class OneFolder:
    """A cache of one entry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def has(self, kind: str, digest: str) -> bool:
        return (self.folder / digest).exists()

    def get_or_make(
        self, kind: str, digest: str, make: object, deadline: Deadline | None = None
    ) -> Path:
        path = self.folder / digest
        if not path.exists():
            path.mkdir()
            make(path)
        return path


def test_the_first_machine_is_saved_and_the_second_restored(
    engine: FakeEngine, guest: FakeGuest, spec: MachineSpec, tmp_path: Path
) -> None:
    cache = OneFolder(tmp_path)
    first = boot_or_restore(cache, engine, spec, soon(), find_panics)
    assert first.succeed("echo on") == "on\n"
    first.kill()
    saved = tmp_path / f"key-{spec.image.digest}" / "state"
    assert saved.read_text() == "state"
    # A restored guest has said "ready" long ago.
    engine.first = ""
    second = boot_or_restore(cache, engine, spec, soon(), find_panics)
    second.kill()
    assert [first.restored, second.restored] == [False, True]
    assert engine.restored_from == [None, saved]
    assert any("date -s @" in command for command in guest.commands), "its clock is set"


def test_an_engine_without_states_always_boots(
    engine: FakeEngine, spec: MachineSpec, tmp_path: Path
) -> None:
    engine.can_save = False
    boot_or_restore(OneFolder(tmp_path / "none"), engine, spec, soon(), find_panics).kill()
    assert engine.restored_from == [None]
