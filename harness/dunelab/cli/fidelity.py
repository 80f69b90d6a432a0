# SPDX-License-Identifier: MIT
"""``dunelab fidelity``: third-party suites natively and under dune-run, compared."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dunelab.cli.session import add_machine_arguments, request, start
from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.errors import DunelabError, UsageError
from dunelab.fidelity import report
from dunelab.fidelity.catalogue import all_suites, suite_names
from dunelab.fidelity.model import How, Pair, differences
from dunelab.fidelity.runner import Boot, Job, Plan, Watcher, run_all
from dunelab.fidelity.state import State
from dunelab.fidelity.suites import select
from dunelab.images.store import Store, find_repo_root
from dunelab.machine import workdir
from dunelab.machine.machine import Machine
from dunelab.results.report import make_header
from dunelab.results.schema import RanOn
from dunelab.spec import ImageKind, MachineSpec

NAME = "fidelity"
HELP = """Run third-party suites natively and under dune-run in the full guest, and print
what ended differently, test by test.  Exit status 1 if anything did.

  dunelab fidelity --engine tcg --vendor amd
  dunelab fidelity --suite cpython --only 'test_signal' --json fidelity.json
  dunelab fidelity --all

What was run is remembered under --results and not run again on the same guest."""

DIFFERENT = 1
_ASK_SECONDS = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab fidelity``."""
    add_machine_arguments(parser)
    parser.set_defaults(image=ImageKind.FULL.value)
    parser.add_argument(
        "--suite", action="append", choices=suite_names(), help="suite, repeatable (default: all)"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="GLOB", help="units by name, repeatable"
    )
    parser.add_argument("--all", action="store_true", help="all units, not only the usual ones")
    parser.add_argument("--list", action="store_true", help="print the units and run none")
    parser.add_argument("--fresh", action="store_true", help="run again what is known")
    parser.add_argument(
        "--tries",
        type=int,
        default=2,
        metavar="N",
        help="how often a unit is run both ways while it differs (default: 2)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the comparison there")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where logs and what is known go (default: results)",
    )
    parser.add_argument(
        "-n", "--workers", type=int, default=1, metavar="N", help="guests at a time (default: 1)"
    )
    parser.add_argument("--cold", action="store_true", help="boot even if a state is saved")


def run(args: argparse.Namespace) -> int:
    """Choose, run, compare, print."""
    if args.image != ImageKind.FULL:
        raise UsageError("the suites are in the full guest only: leave --image out")
    if args.tries < 1 or args.workers < 1:
        raise UsageError("--tries and -n must be 1 or more")
    began, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    console = Console(stderr=True, highlight=False)
    guests = _Guests(args, lambda text: console.print(f"dunelab: {text}", markup=False))
    jobs = _jobs(args, guests)
    if args.list:
        for job in jobs:
            print(f"{job.suite.name} {job.unit.name}")
        return 0
    spec = guests.spec
    state = State(args.results.resolve() / "fidelity" / str(spec.cell), spec.image)
    plan = Plan(jobs, args.tries, args.workers, args.fresh)
    tries = _run(plan, guests.boot, state, console)
    comparison = report.Comparison(
        make_header(started, time.monotonic() - began, sys.argv[1:], find_repo_root()),
        guests.ran_on,
        tuple(tuple(pairs) for pairs in tries),
    )
    if args.json is not None:
        report.write(comparison, args.json)
    out = Console(highlight=False)
    report.print_summary(out, tries)
    report.print_differences(out, comparison.differences)
    found = len(comparison.differences)
    endless = sum(pairs[-1].endless for pairs in tries)
    but = f", {endless} of which came to no end either way" if endless else ""
    print(f"{found} differences in {len(tries)} units{but}; logs: {state.folder}")
    return DIFFERENT if found else 0


class _Guests:
    """Boots the guests that the options ask for, and remembers what they were."""

    def __init__(self, args: argparse.Namespace, progress: Callable[[str], None]) -> None:
        self._cold: bool = args.cold
        self._progress = progress
        self._lock = threading.Lock()
        self._asked = request(args, Path(), progress)
        self._lab = DuneLab(find_repo_root(), progress)
        self.ran_on: RanOn | None = None

    @property
    def spec(self) -> MachineSpec:
        """The machine that was asked for, without a folder."""
        return self._asked.spec

    @property
    def store(self) -> Store:
        """Where the suites' own files come from."""
        return self._asked.store

    @contextlib.contextmanager
    def boot(self) -> Iterator[Machine]:
        """A guest in a folder of its own."""
        folder = workdir.create("fidelity")
        try:
            asked = replace(self._asked, spec=replace(self._asked.spec, workdir=folder))
            with start(asked, self._progress, cold=self._cold) as machine:
                with self._lock:
                    self.ran_on = self._describe(machine)
                yield machine
        except DunelabError:
            workdir.keep(folder)
            raise
        finally:
            workdir.remove(folder)

    def _describe(self, machine: Machine) -> RanOn:
        spec = self._asked.spec
        builds = self._lab.builds(spec.cell.kernel)
        return RanOn.of(
            machine.facts,
            cell=str(spec.cell),
            kernel=spec.cell.kernel,
            release=builds.release,
            module_build_id=builds.module_build_id,
            libdune_build_id=builds.libdune_build_id,
            cpus=spec.cpus,
            image=spec.image.kind,
            boot_seconds=machine.boot_seconds,
            kernel_package=builds.kernel_package,
            compiler=builds.compiler,
        )


def _jobs(args: argparse.Namespace, guests: _Guests) -> tuple[Job, ...]:
    """The units that were asked for; a guest says which there are."""
    suites = all_suites(guests.store)
    chosen = args.suite or list(suites)
    with guests.boot() as machine:

        def ask(text: str) -> str:
            done = machine.run(text, Deadline.after(_ASK_SECONDS, "a list of units"))
            return done.stdout + done.stderr

        jobs = tuple(
            Job(suites[name], unit)
            for name in dict.fromkeys(chosen)
            for unit in select(suites[name].units(ask), args.only, args.all)
        )
    if not jobs:
        raise UsageError(
            f"no unit is called {' or '.join(args.only)}",
            next_command="dunelab fidelity --all --list",
        )
    return jobs


class _Bar(Watcher):
    """A progress bar on a terminal, a line per unit elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("fidelity", total=total)

    def begins(self, job: Job, how: How) -> None:
        self.progress.update(self._task, description=f"{job.unit.name} ({how})")

    def says(self, job: Job, how: How, test: str) -> None:
        name = test.rpartition(".")[2]
        self.progress.update(self._task, description=f"{job.unit.name} ({how}) {name}")

    def ends(self, job: Job, tries: Sequence[Pair]) -> None:
        found = differences(tries)
        seconds = sum(pair.native.seconds + pair.dune.seconds for pair in tries)
        same = "no end either way" if tries[-1].endless else "the same"
        said = f"{len(found)} differences" if found else same
        self._console.print(
            f"{job.suite.name} {job.unit.name}: {said} ({seconds:.0f} s)", markup=False
        )
        self.progress.advance(self._task)


def _run(plan: Plan, boot: Boot, state: State, console: Console) -> list[list[Pair]]:
    """All pairs, in the order of the plan."""
    bar = _Bar(console, len(plan.jobs))
    found: dict[Job, list[Pair]] = {}
    with bar.progress:
        for job, pairs in run_all(plan, boot, state, bar):
            found[job] = pairs
            bar.ends(job, pairs)
    return [found[job] for job in plan.jobs]
