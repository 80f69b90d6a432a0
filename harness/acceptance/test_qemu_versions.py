# SPDX-License-Identifier: MIT
"""The tcg engine on the QEMU of each Debian release that has another than the last.

Each is started out of a root of its release (``Store.qemu``): the command line, the
monitor, the user network, and the saving and restoring of states are what differs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_guest
from dunelab.dune.lab import BOOT_SECONDS, DuneLab
from dunelab.engines.qemu import VARIABLE
from dunelab.errors import EngineUnavailable
from dunelab.images.cache import Cache
from dunelab.machine.machine import Machine
from dunelab.machine.states import boot_or_restore
from dunelab.pytest_support import runner
from dunelab.pytest_support.header import SMP, Variant, list_programs
from dunelab.results import ktap
from dunelab.results.splat import find_splats
from dunelab.spec import Cell, EngineName, MachineSpec, Vendor

VERSIONS = {"bullseye": "5.2", "bookworm": "7.2", "trixie": "10.0", "sid": "11."}
# Its guests boot; that it cannot execute a Dune process is said before it is tried.
NOT_FOR_DUNE = "bullseye"
SECONDS = 300
FOLDER = "/tmp/versions"  # noqa: S108 - a path inside the guest

pytestmark = [pytest.mark.slow(SECONDS), pytest.mark.usefixtures("resting_guests")]


class Bench:
    """Machines of one cell, on one QEMU."""

    def __init__(self, lab: DuneLab, folder: Path, *, runs_dune: bool) -> None:
        self._lab = lab
        self._folder = folder
        self._runs_dune = runs_dune
        self._cell = Cell(EngineName.TCG, Vendor.AMD, lab.default_kernel())
        # Of this test alone: the first machine is booted and saved, the second restored.
        self._cache = Cache(folder / "cache")

    def spec(self, name: str, variant: Variant) -> MachineSpec:
        folder = self._folder / name
        folder.mkdir()
        return self._lab.spec(self._cell, variant, folder)

    @contextlib.contextmanager
    def machine(self, spec: MachineSpec) -> Iterator[Machine]:
        engine = self._lab.engine(self._cell)
        deadline = Deadline.after(BOOT_SECONDS[EngineName.TCG], "a guest")
        machine = boot_or_restore(self._cache, engine, spec, deadline, find_splats)
        try:
            yield machine
        finally:
            machine.kill()

    def saved(self, spec: MachineSpec) -> bool:
        return self._cache.has("states", self._lab.engine(self._cell).state_key(spec))

    def use(self, machine: Machine) -> None:
        """Go into Dune mode where this QEMU can, or be told by name that it cannot."""
        deadline = Deadline.after(30, "uname")
        assert machine.run("uname -s", deadline).stdout == "Linux\n"
        if self._runs_dune:
            self._enter(machine)
            return
        with pytest.raises(EngineUnavailable, match=r"5\.2.* cannot execute a Dune process"):
            dune_guest.load_module(machine)

    def _enter(self, machine: Machine) -> None:
        """Load the module and go into Dune mode; proven as any program's run is."""
        dune_guest.load_module(machine)
        (program,) = [p for p in list_programs(Path("tests")) if p.path == "behaviour/enter"]
        deadline = Deadline.after(120, f"end of {program.path}")
        machine.run(f"mkdir -p {FOLDER}/behaviour", deadline)
        machine.push(self._lab.program(program.path), f"{FOLDER}/{program.path}", 0o755)
        for library in self._lab.libraries():
            machine.push(library, f"{FOLDER}/{library.name}", 0o755)
        command = runner.command_line(program, FOLDER)
        result = machine.run(command, deadline, env={"LD_LIBRARY_PATH": FOLDER})
        document = ktap.parse(result.stdout)
        assert not runner.complaints(result, document)
        assert not runner.proof_complaints(program, document.all_facts())
        assert {"cpl", "exits"} <= set(document.all_facts())
        assert not find_splats(machine.console.text())


@pytest.fixture(params=VERSIONS)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bench(release: str, lab: DuneLab, tmp_path: Path) -> Bench:
    return Bench(lab, tmp_path, runs_dune=release != NOT_FOR_DUNE)


@pytest.fixture
def version(release: str, lab: DuneLab, monkeypatch: pytest.MonkeyPatch) -> str:
    """The version that a release's QEMU must say it is, once it is the one that is used."""
    monkeypatch.setenv(VARIABLE, str(lab.store.qemu(release)))
    return f"QEMU {VERSIONS[release]}"


def test_a_guest_boots_is_saved_and_restored(bench: Bench, version: str) -> None:
    first = bench.spec("first", SMP)
    assert not bench.saved(first)
    with bench.machine(first) as machine:
        assert machine.facts.version.startswith(version)
        bench.use(machine)
    assert bench.saved(first)
    with bench.machine(bench.spec("second", SMP)) as machine:
        assert machine.facts.version.startswith(version)
        bench.use(machine)


def test_a_guest_that_counts_instructions(bench: Bench, version: str) -> None:
    with bench.machine(bench.spec("counts", replace(SMP, cpus=1, icount=True))) as machine:
        assert machine.facts.version.startswith(version)
        assert "icount" in machine.facts.accelerator
        bench.use(machine)
