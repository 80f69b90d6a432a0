# SPDX-License-Identifier: MIT
"""Run one guest program on one guest, read its KTAP, and judge it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dunelab.deadline import Deadline
from dunelab.pytest_support.header import Program, ProgramKind
from dunelab.pytest_support.pool import Guest
from dunelab.results import ktap
from dunelab.results.schema import MetricResult, merge_runs
from dunelab.spec import CommandResult, EngineName, Unit

GUEST_FOLDER = "/tmp/dunelab"  # noqa: S108 - a path inside the guest
PUSH_SECONDS = 60.0
# A few ticks on a cost of a few dozen are no disagreement: as much as the gate of costs allows.
AGREEMENT_TICKS = 5.0


@dataclass(frozen=True)
class ProgramRun:
    """All runs of a program, read but not yet judged."""

    program: Program
    results: tuple[CommandResult, ...]
    documents: tuple[ktap.KtapDocument, ...]
    unit: Unit

    @property
    def metrics(self) -> tuple[MetricResult, ...]:
        """What was measured; warm-up runs are judged like the others, not counted."""
        measured = self.documents[self.program.warm_ups :]
        return merge_runs([document.all_metrics() for document in measured], self.unit)

    @property
    def facts(self) -> dict[str, str]:
        """Facts of all runs; the last run wins where they differ."""
        merged: dict[str, str] = {}
        for document in self.documents:
            merged.update(document.all_facts())
        return merged

    @property
    def subtests(self) -> tuple[tuple[str, str], ...]:
        """Each result line's path and verdict, of the last run."""
        if not self.documents:
            return ()
        return tuple((path, str(result.verdict)) for path, result in self.documents[-1].walk())


def command_line(program: Program, folder: str = GUEST_FOLDER) -> str:
    """What is run in the guest."""
    command = shlex.quote(f"{folder}/{program.path}")
    # Not the last command: a shell that became the program could not tell its signal.
    return f"cd {folder} && {command} {program.options.args}".rstrip() + "; exit $?"


def run_program(
    guest: Guest,
    program: Program,
    binary: Path,
    libraries: Sequence[Path] = (),
    env: Mapping[str, str] | None = None,
) -> ProgramRun:
    """Push the binary once per guest, run it as often as its kind demands."""
    machine = guest.machine
    push_once(guest, {program.path: binary, **{path.name: path for path in libraries}})
    environment = {"LD_LIBRARY_PATH": GUEST_FOLDER, **(env or {})}
    results: list[CommandResult] = []
    documents: list[ktap.KtapDocument] = []
    for number in range(program.warm_ups + program.runs):
        deadline = Deadline.after(
            program.options.timeout, f"end of {program.path} (run {number + 1})"
        )
        result = machine.run(command_line(program), deadline, env=environment)
        results.append(result)
        documents.append(ktap.parse(result.stdout))
        if complaints(result, documents[-1]):
            break
    return ProgramRun(program, tuple(results), tuple(documents), machine.facts.unit)


def program_logs(results: Sequence[CommandResult]) -> dict[str, str]:
    """What a program printed: its KTAP as it came, one document per file, and the rest."""
    several = len(results) > 1
    logs = {
        f"output-{number}.ktap" if several else "output.ktap": result.stdout
        for number, result in enumerate(results, 1)
    }
    return {**logs, "stderr.txt": "\n".join(result.stderr for result in results)}


def push_once(guest: Guest, files: Mapping[str, Path]) -> None:
    """Copy files below the guest's folder, each only once in a guest's life."""
    for name, local in files.items():
        if name in guest.pushed:
            continue
        remote = PurePosixPath(GUEST_FOLDER) / name
        folder = str(remote.parent)
        if folder not in guest.pushed:
            until = Deadline.after(PUSH_SECONDS, "folder in the guest")
            guest.machine.run(f"mkdir -p {shlex.quote(folder)}", until)
            guest.pushed.add(folder)
        guest.machine.push(local, str(remote), 0o755)
        guest.pushed.add(name)


def describe_status(status: int) -> str:
    """An exit status in words; a shell reports a signal as 128 + its number."""
    if status > 128:
        try:
            return f"killed by {signal.Signals(status - 128).name} (status {status})"
        except ValueError:
            return f"exit status {status}"
    return f"exit status {status}"


def complaints(result: CommandResult, document: ktap.KtapDocument) -> list[str]:
    """Why one run did not pass.  A good report cannot outweigh a bad exit."""
    found = []
    if result.exit_status != 0:
        found.append(describe_status(result.exit_status))
    found.extend(document.complaints())
    return found


def proof_complaints(program: Program, facts: Mapping[str, str]) -> list[str]:
    """A program must have run in guest mode and say so; native ones need not.

    ``cpl`` is the privilege level it saw, ``exits`` what the vCPU's own
    counters moved by; a test that would pass outside is no test.
    """
    if program.kind is ProgramKind.NATIVE and not {"cpl", "exits"} & set(facts):
        return []
    cpl, exits = facts.get("cpl"), facts.get("exits")
    found = []
    if cpl is None or exits is None:
        found.append(f"{program.path} gives no proof of guest mode: no '# fact: cpl=' or 'exits='")
    if cpl not in (None, "0"):
        found.append(f"{program.path} ran at privilege level {cpl}, not 0")
    if exits is not None and not (exits.isdigit() and int(exits) > 0):
        found.append(f"{program.path} caused {exits} VM exits: it was not in guest mode")
    return found


def disagreements(
    program: Program, metrics: Sequence[MetricResult], engine: EngineName
) -> list[str]:
    """Costs whose runs differ on an engine whose instruction count repeats."""
    if program.kind is not ProgramKind.BENCH or engine is EngineName.KVM:
        return []
    return [
        f"{metric.name}: {len(metric.values)} runs differ by {metric.spread:.2%} "
        f"(limit {program.options.spread} %): {', '.join(f'{value:g}' for value in metric.values)}"
        for metric in metrics
        if metric.unit == Unit.TICKS
        and metric.spread * 100 > program.options.spread
        and metric.high - metric.low > AGREEMENT_TICKS
    ]


def judge(run: ProgramRun, engine: EngineName) -> None:
    """Raise AssertionError with every reason why the program did not pass."""
    __tracebackhide__ = True
    reasons = [
        (f"run {number}: {reason}" if len(run.results) > 1 else reason)
        for number, (result, document) in enumerate(
            zip(run.results, run.documents, strict=True), start=1
        )
        for reason in complaints(result, document)
    ]
    if not reasons:
        reasons = proof_complaints(run.program, run.facts)
    if not reasons:
        reasons = disagreements(run.program, run.metrics, engine)
    if reasons:
        stderr = run.results[-1].stderr.strip() if run.results else ""
        said = f"\nit said on standard error:\n{stderr}" if stderr else ""
        raise AssertionError(f"{run.program.path}: " + "\n".join(reasons) + said)


def all_skipped(run: ProgramRun) -> str | None:
    """The reason when every run skipped everything, else None."""
    if run.documents and all(document.skipped for document in run.documents):
        return run.documents[-1].skip_reason or "no reason given"
    return None
