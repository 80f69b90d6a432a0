# SPDX-License-Identifier: MIT
"""Runs units in full guests, both ways, and again where they differ."""

from __future__ import annotations

import contextlib
import json
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from dunelab.deadline import Deadline
from dunelab.dune.guest import load_module
from dunelab.errors import GuestDied, InfrastructureError
from dunelab.fidelity.model import WHOLE, End, How, Pair, Test, UnitRun
from dunelab.fidelity.state import State
from dunelab.fidelity.suites import GUEST_FOLDER, KILLED, Ended, Suite, Unit, guest_file
from dunelab.machine.machine import Machine
from dunelab.machine.watch import CommandTimeout
from dunelab.spec import EngineName

PREFIX = {How.NATIVE: (), How.DUNE: ("dune-run", "--verify")}
PROOF = "dune-run: CPL 0"
UNIT_FOLDER = "/tmp/fidelity"  # noqa: S108 - in the guest
# A unit's limit is kept in the guest, by its clock; this is when the guest is asked what is
# wrong.  A minute of a guest took 17 of Bochs' host beside other emulators.
PACE = {EngineName.KVM: 1.0, EngineName.TCG: 1.0, EngineName.BOCHS: 25.0}
GRACE_SECONDS = 60.0
DUNE_FACTOR = 1.5
"""How much more time than natively a unit may take in Dune mode."""

Boot = Callable[[], contextlib.AbstractContextManager[Machine]]


@dataclass(frozen=True)
class Job:
    """A unit and the suite that it is of."""

    suite: Suite
    unit: Unit


class Watcher:
    """What a run tells while it goes on.  Does nothing; another may show it."""

    def begins(self, job: Job, how: How) -> None:
        """A unit starts."""

    def says(self, job: Job, how: How, test: str) -> None:
        """A test of a unit starts."""

    def ends(self, job: Job, tries: Sequence[Pair]) -> None:
        """A unit was run both ways, as often as needed."""


class GuestKeeper:
    """One guest for many units: booted when first needed, and again when it died."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._stack = contextlib.ExitStack()
        self._machine: Machine | None = None
        self._ready: set[str] = set()

    def machine(self, suite: Suite) -> Machine:
        """A guest that is alive, with dune.ko and what the suite needs."""
        if self._machine is None:
            machine = self._stack.enter_context(self._boot())
            load_module(machine)
            folder = Deadline.after(30, "a folder")
            machine.run(f"mkdir -p {GUEST_FOLDER}", folder, check=True)
            machine.push(guest_file("unit.sh"), f"{GUEST_FOLDER}/unit.sh", 0o755)
            self._machine = machine
            self._ready = set()
        if suite.name not in self._ready:
            _prepare(self._machine, suite)
            self._ready.add(suite.name)
        return self._machine

    def replace(self) -> None:
        """This guest is dead."""
        if self._machine is not None:
            self._machine.kill()
            self._machine = None
        with contextlib.suppress(GuestDied, InfrastructureError):
            self._stack.close()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> GuestKeeper:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is not None:
            self.replace()
        self._stack.close()


def _prepare(machine: Machine, suite: Suite) -> None:
    for path in suite.files:
        machine.push(path, f"{GUEST_FOLDER}/{path.name}", 0o755)
    if suite.setup:
        limit = Deadline.after(120, f"set-up of {suite.name}")
        machine.run(f"cd {GUEST_FOLDER} && {suite.setup}", limit, check=True)


def run_unit(keeper: GuestKeeper, job: Job, how: How, watcher: Watcher) -> tuple[UnitRun, str]:
    """Run one unit one way; its log beside it.  A guest that dies is an end like others."""
    machine = keeper.machine(job.suite)
    limit = job.unit.seconds * (DUNE_FACTOR if how is How.DUNE else 1)
    words = (
        f"{GUEST_FOLDER}/unit.sh",
        f"{limit:.0f}",
        UNIT_FOLDER,
        *PREFIX[how],
        *job.suite.command(job.unit),
    )
    started = time.monotonic()
    patience = limit * PACE[machine.facts.engine] + GRACE_SECONDS
    follower = _Follower(lambda test: watcher.says(job, how, test))
    watcher.begins(job, how)
    try:
        result = machine.run(
            shlex.join(words),
            Deadline.after(patience, f"end of {job.unit.name} ({how})"),
            sink=follower,
        )
    except GuestDied as death:
        keeper.replace()
        tests: tuple[Test, ...] = (Test(WHOLE, End.GUEST_DIED, str(death)),)
        log = str(death)
    except CommandTimeout as overrun:
        keeper.replace()
        log = str(overrun)
        tests = job.suite.read(Ended(KILLED, follower.stdout, log))
    else:
        if result.exit_status == 125 and PROOF not in result.stderr:
            raise InfrastructureError(f"{words[0]} failed in the guest: {result.stderr.strip()}")
        if how is How.DUNE and PROOF not in result.stderr and result.exit_status < 128:
            raise InfrastructureError(
                f"{job.unit.name}: dune-run did not say that it is in Dune mode; it said:\n"
                f"{result.stderr.strip()[-2000:]}"
            )
        log = result.stderr
        tests = job.suite.read(Ended(result.exit_status, result.stdout, _without_proof(log)))
    seconds = time.monotonic() - started
    return UnitRun(job.suite.name, job.unit.name, how, seconds, tests), log


def _without_proof(log: str) -> str:
    return "".join(line for line in log.splitlines(True) if not line.startswith(PROOF))


class _Follower:
    """An output sink that tells the tests as they start."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = ""
        self.stdout = ""

    def __call__(self, stream: str, text: str) -> None:
        if stream != "stdout":
            return
        self.stdout += text
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if "start" in event:
                    self._tell(event["start"])


@dataclass(frozen=True)
class Plan:
    """What to run, and how."""

    jobs: tuple[Job, ...]
    tries: int
    workers: int
    fresh: bool


def run_pairs(
    keeper: GuestKeeper, job: Job, state: State, plan: Plan, watcher: Watcher
) -> list[Pair]:
    """Run a unit natively and in Dune mode; again, up to ``tries`` times, while they differ."""
    pairs: list[Pair] = []
    for attempt in range(1, plan.tries + 1):
        runs = {}
        for how in How:
            found = None if plan.fresh else state.load(job.suite, job.unit, how, attempt)
            if found is None:
                found, log = run_unit(keeper, job, how, watcher)
                state.save(job.suite, job.unit, attempt, found, log)
            runs[how] = found
        pairs.append(Pair(runs[How.NATIVE], runs[How.DUNE]))
        if not pairs[-1].differing:
            break
    return pairs


def run_all(
    plan: Plan, boot: Boot, state: State, watcher: Watcher
) -> Iterator[tuple[Job, list[Pair]]]:
    """Run all jobs, each worker in a guest of its own; results as they come."""
    todo: SimpleQueue[Job] = SimpleQueue()
    done: SimpleQueue[tuple[Job, list[Pair]]] = SimpleQueue()
    stop = threading.Event()
    for job in plan.jobs:
        todo.put(job)

    def work() -> None:
        with GuestKeeper(boot) as keeper:
            while not stop.is_set():
                try:
                    job = todo.get_nowait()
                except Empty:
                    return
                done.put((job, run_pairs(keeper, job, state, plan, watcher)))

    with ThreadPoolExecutor(min(plan.workers, len(plan.jobs))) as pool:
        workers: list[Future[None]] = [
            pool.submit(work) for _ in range(min(plan.workers, len(plan.jobs)))
        ]
        try:
            for _ in plan.jobs:
                yield _next(done, workers)
        finally:
            stop.set()


def _next(
    done: SimpleQueue[tuple[Job, list[Pair]]], workers: Sequence[Future[None]]
) -> tuple[Job, list[Pair]]:
    while True:
        with contextlib.suppress(Empty):
            return done.get(timeout=0.5)
        for worker in workers:
            if worker.done() and worker.exception() is not None:
                worker.result()
