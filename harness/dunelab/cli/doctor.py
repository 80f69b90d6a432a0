# SPDX-License-Identifier: MIT
"""``dunelab doctor``: measures instead of assuming."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from rich.table import Table

from dunelab.cli.host import Host, Need, needs, survey_host
from dunelab.cli.session import Progress, progress_on_stderr, splat_finder
from dunelab.deadline import Deadline
from dunelab.dune.lab import BOOT_SECONDS
from dunelab.engines.base import Engine
from dunelab.engines.bochs import BochsEngine
from dunelab.engines.select import Engines, all_engines, pick
from dunelab.errors import DunelabError
from dunelab.images.store import Store
from dunelab.machine import workdir
from dunelab.machine.machine import Machine
from dunelab.machine.states import boot_or_restore
from dunelab.machine.survey import survey_cpu
from dunelab.spec import Cell, GuestImage, MachineSpec, Vendor

NAME = "doctor"
HELP = """Measure what works on this machine: every engine with every vendor boots a
probe guest, which reports the extension it sees and how long it took.  For each
missing thing the next command is printed.

Exit status 0: both vendors can be tested here; 1: not."""

SCHEMA = 1


@dataclass
class Finding:
    """One engine with one vendor; ``ok`` is None when it was not looked at."""

    engine: str
    vendor: str
    ok: bool | None
    reason: str
    next_command: str | None = None
    mendable: bool = True
    facts: Mapping[str, str] = field(default_factory=dict)
    booted: bool = False
    boot_seconds: float | None = None
    restore_seconds: float | None = None
    accelerator: str | None = None
    version: str | None = None
    cpu_model: str | None = None
    unit: str | None = None
    features: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab doctor``."""
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--quick", action="store_true", help="boot nothing, build nothing")
    parser.add_argument("--kernel", metavar="ID", help="kernel of the probe guests")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Survey, probe, report."""
    with progress_on_stderr(args.quiet) as progress:
        store = Store.open(progress=progress)
        engines = all_engines(store)
        host = survey_host(store.cache.root)
        wanted = needs(host)
        findings = examine(engines, store, args.kernel, args.quick, progress)
    auto = {str(vendor): str(pick(engines, vendor)) for vendor in Vendor}
    if args.json:
        print(json.dumps(as_json(host, wanted, findings, auto, args.quick), indent=2))
    else:
        _print(host, wanted, findings, auto)
    return 0 if both_vendors(findings, auto) else 1


def both_vendors(findings: list[Finding], auto: Mapping[str, str]) -> bool:
    """Whether what ``auto`` would choose works, or may work, for each vendor."""
    working = {(finding.vendor, finding.engine) for finding in findings if finding.ok is not False}
    return all((vendor, engine) in working for vendor, engine in auto.items())


def examine(
    engines: Engines, store: Store, kernel: str | None, quick: bool, progress: Progress
) -> list[Finding]:
    """Check every engine with every vendor; boot those that can."""
    findings = []
    image: GuestImage | None = None
    trouble: DunelabError | None = None
    if not quick:
        try:
            image = store.guest_image(kernel, with_module=False)
        except DunelabError as error:
            trouble = error
    for engine in engines.values():
        for vendor in Vendor:
            progress(f"checking {engine.name} with {vendor}")
            finding = _check(engine, vendor, quick)
            findings.append(finding)
            if not finding.ok or quick:
                continue
            if image is None:
                assert trouble is not None
                _failed(finding, trouble)
            else:
                _boot(finding, engine, vendor, image, store, progress)
    return findings


def _check(engine: Engine, vendor: Vendor, quick: bool) -> Finding:
    if quick and isinstance(engine, BochsEngine):
        # Asking would build it.
        return Finding(
            str(engine.name), str(vendor), None, "not looked at: --quick", "dunelab doctor"
        )
    found = engine.check(vendor)
    return Finding(
        engine=str(engine.name),
        vendor=str(vendor),
        ok=found.ok,
        reason=found.reason,
        next_command=found.next_command,
        mendable=found.mendable,
        facts=found.facts,
    )


def _boot(
    finding: Finding,
    engine: Engine,
    vendor: Vendor,
    image: GuestImage,
    store: Store,
    progress: Progress,
) -> None:
    folder = workdir.create("doctor")
    try:
        spec = MachineSpec(Cell(engine.name, vendor, image.kernel), image, folder / "cold")
        deadline = Deadline.after(BOOT_SECONDS[engine.name], f"first command on {spec.cell}")
        started = time.monotonic()
        with Machine.boot(engine, spec, deadline, splat_finder(), progress) as machine:
            seen = survey_cpu(machine, vendor)
            finding.boot_seconds = round(time.monotonic() - started, 2)
            facts = machine.facts
        finding.booted = True
        finding.accelerator = facts.accelerator
        finding.version = facts.version
        finding.cpu_model = f"{facts.cpu_model}; the guest sees {seen.model}"
        finding.unit = str(facts.unit)
        finding.features = seen.features
        if not seen.has_extension:
            finding.ok = False
            finding.reason = f"the guest boots but its CPU has no {vendor} extension"
            return
        if engine.can_save:
            finding.restore_seconds = _restore(engine, spec, folder, store, progress)
    except DunelabError as error:
        workdir.keep(folder)
        _failed(finding, error)
    finally:
        workdir.remove(folder)


def _restore(
    engine: Engine, spec: MachineSpec, folder: Path, store: Store, progress: Progress
) -> float:
    """Seconds to a first command from a saved state; makes the state if there is none."""
    seconds = 0.0
    for attempt in ("saved", "restored"):
        again = dataclasses.replace(spec, workdir=folder / attempt)
        deadline = Deadline.after(BOOT_SECONDS[engine.name], f"first command on {spec.cell}")
        started = time.monotonic()
        machine = boot_or_restore(store.cache, engine, again, deadline, splat_finder(), progress)
        with machine:
            machine.succeed("true")
            seconds = time.monotonic() - started
        if machine.restored:
            break
    return round(seconds, 2)


def _failed(finding: Finding, error: DunelabError) -> None:
    finding.ok = False
    finding.reason = error.what if error.evidence is None else f"{error.what} ({error.evidence})"
    finding.next_command = error.next_command


def as_json(
    host: Host,
    wanted: list[Need],
    findings: list[Finding],
    auto: Mapping[str, str],
    quick: bool,
) -> dict[str, Any]:
    """The report as one JSON object; docs/engines.md describes its fields."""
    return {
        "schema": SCHEMA,
        "quick": quick,
        "host": {
            "cores": host.cores,
            "memory_available_mib": host.memory_available_mib,
            "disk_free_mib": host.disk_free_mib,
            "cache": str(host.cache),
            "recommended_n": host.workers,
        },
        "auto": dict(auto),
        "needs": [dataclasses.asdict(need) for need in wanted],
        "engines": [dataclasses.asdict(finding) for finding in findings],
    }


def _print(
    host: Host, wanted: list[Need], findings: list[Finding], auto: Mapping[str, str]
) -> None:
    console = RichConsole(highlight=False)
    console.print(
        f"{host.cores} cores, {host.memory_available_mib} MiB memory available, "
        f"{host.disk_free_mib} MiB disk free; recommended: pytest harness/ -n {host.workers}"
    )
    table = Table("engine", "vendor", "works", "first command", "restored")
    for finding in findings:
        table.add_row(
            finding.engine + (" (auto)" if auto.get(finding.vendor) == finding.engine else ""),
            finding.vendor,
            {True: "yes", False: "no", None: "?"}[finding.ok],
            _seconds(finding.boot_seconds),
            _seconds(finding.restore_seconds),
        )
    console.print(table)
    for finding in findings:
        said = f"{finding.version}, {finding.cpu_model}" if finding.booted else finding.reason
        _line(console, f"{finding.engine} {finding.vendor}: {said}")
        if finding.features:
            _line(console, f"    {' '.join(finding.features)}")
    for name, why, command in missing(wanted, findings):
        _line(console, f"missing: {name}: {why}")
        _line(console, f"    next: {command}")


def missing(wanted: list[Need], findings: list[Finding]) -> list[tuple[str, str, str]]:
    """What a command can mend, each command once."""
    found: dict[str, tuple[str, str, str]] = {}
    for need in wanted:
        if need.next_command and not need.ok:
            found.setdefault(need.next_command, (need.name, need.why, need.next_command))
    for one in findings:
        if one.next_command and one.mendable and one.ok is False:
            name = f"{one.engine} {one.vendor}"
            found.setdefault(one.next_command, (name, one.reason, one.next_command))
    return list(found.values())


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _line(console: RichConsole, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
