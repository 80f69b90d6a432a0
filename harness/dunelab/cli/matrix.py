# SPDX-License-Identifier: MIT
"""``dunelab matrix``: module and tests over all kernels, one table."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

import dunelab
from dunelab.cli.host import recommended_workers, survey_host
from dunelab.cli.run import EVERYTHING, PROGRAMS, SHORT
from dunelab.dune.lab import DuneLab
from dunelab.errors import UsageError
from dunelab.images.digest import Digest
from dunelab.images.kernels import KernelEntry
from dunelab.images.store import find_repo_root
from dunelab.matrix import kcidb
from dunelab.matrix.budget import GUESSES, choose, parse_duration
from dunelab.matrix.builds import build_all
from dunelab.matrix.cells import CellRunner, Suite
from dunelab.matrix.model import (
    BuildReport,
    CellReport,
    MatrixReport,
    Verdict,
    exit_status,
)
from dunelab.matrix.plan import Planned, github_plan, lost_rows, plan_cells, plan_lines
from dunelab.matrix.record import DOCUMENT, Record, cell_runs, merge, read_report
from dunelab.matrix.report import (
    build_lines,
    map_annotations,
    summary,
    terminal_map,
    terminal_table,
    write_all,
)
from dunelab.pytest_support.options import AUTO, DEFAULT_PAIRS, ENGINE_VENDORS
from dunelab.results import github
from dunelab.results import kcidb as report_kcidb
from dunelab.results.report import RESULTS_FILE, git_commit, read_results, write_atomically
from dunelab.spec import EngineName, Vendor

NAME = "matrix"
HELP = """Build dune.ko for every kernel of images/kernels.toml and say what it breaks on;
then run the tests per kernel and vendor, and end with one table.

  dunelab matrix                                # every kernel, both vendors
  dunelab matrix --build-only                   # the API map alone
  dunelab matrix --budget 10m                   # what shows most in ten minutes
  dunelab matrix --kernel debian-7.3 --vendor intel --suite all
  dunelab matrix --plan github                  # the cells as JSON, for a CI
  dunelab matrix --from A/matrix.json B/matrix.json     # several runs in one table

The table is printed, and left in the results folder as matrix.md, matrix.html,
matrix.json, junit.xml and kcidb.json; the evidence of each cell is below cells/.  A run that was
interrupted goes on where it was when the same command is given again.

Exit status: 0 nothing failed, 1 the module or a test did, 2 the bench did or a kernel
could not be had.  Any other cell that is not run does not fail; the table says why."""

# Two or four CPUs that wait for each other take an emulator a third of a cell's time, for
# costs that are the host's: what they show of a kernel, the behaviours show as well.
_BETWEEN_CPUS = "ipi or shootdown"

SUITES = {
    "quick": Suite("quick", PROGRAMS, "enter or exit_status"),
    "run": Suite("run", PROGRAMS, f"({SHORT}) and not ({_BETWEEN_CPUS})"),
    "programs": Suite(
        "programs", ("harness/acceptance/test_programs.py", "harness/acceptance/test_module.py")
    ),
    "all": Suite("all", EVERYTHING),
}


_EMULATORS = {vendor: engine for engine, vendor in DEFAULT_PAIRS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab matrix``."""
    cells = parser.add_argument_group("cells")
    cells.add_argument(
        "--kernel",
        action="append",
        metavar="ID",
        help="kernel of images/kernels.toml, or the path of one of your own, repeatable "
        "(default: all of images/kernels.toml)",
    )
    cells.add_argument(
        "--vendor",
        action="append",
        choices=list(Vendor),
        help="vendor, repeatable (default: both)",
    )
    cells.add_argument(
        "--engine",
        choices=[AUTO, *EngineName],
        default=AUTO,
        help="engine of all cells (default: auto: a kvm that nests, else tcg for amd and "
        "bochs for intel)",
    )
    cells.add_argument(
        "--suite",
        choices=list(SUITES),
        default="run",
        help="the tests of a cell: quick: enter and leave; run: those of 'dunelab run', without "
        "the costs between CPUs; programs: all guest programs, and loading and unloading; all: "
        "the whole acceptance suite (default: run)",
    )
    work = parser.add_argument_group("work")
    work.add_argument(
        "--budget",
        metavar="TIME",
        help="begin no cell that would not end within TIME (10m, 1.5h) of the start; choose "
        "those that cover most, and say which were left out; with --plan: cells that take TIME "
        "together",
    )
    work.add_argument("--build-only", action="store_true", help="boot nothing")
    work.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="cells that run at once (default: what cores and memory bear, as doctor says)",
    )
    work.add_argument(
        "--fresh", action="store_true", help="do not go on with a run that was interrupted"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--results",
        type=Path,
        default=Path("results/matrix"),
        metavar="DIR",
        help="where table and evidence go (default: results/matrix)",
    )
    output.add_argument(
        "--origin",
        default=kcidb.ORIGIN,
        metavar="NAME",
        help=f"whose results {kcidb.FILE} says they are, a-z, 0-9 and _ (default: {kcidb.ORIGIN})",
    )
    output.add_argument(
        "--plan",
        choices=["github", "lines"],
        help="print the cells for other machines, and do nothing: as a CI's dynamic matrix, or as "
        "a line each of kernel, vendor and suite",
    )
    output.add_argument(
        "--from",
        dest="documents",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="make one table of the matrix.json of earlier runs; do nothing else",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Plan, build, map, run, report."""
    say = _silent if args.quiet else _say
    if args.documents:
        report = merge([read_report(path) for path in args.documents])
        folders = [path if path.is_dir() else path.parent for path in args.documents]
        return _finish(report, args, folders)
    root = find_repo_root()
    lab = DuneLab(root, say)
    suite = SUITES[args.suite]
    entries = [lab.store.entry(kernel) for kernel in args.kernel or ()]
    chosen = entries or list(lab.store.matrix.kernels)
    if args.plan:
        plan = _plan_elsewhere(args, chosen, say)
        if args.plan == "lines":
            print(plan_lines(plan, suite.name), end="")
        else:
            print(json.dumps(github_plan(plan, suite.name), indent=1))
        return 0
    run_ = MatrixRun(args, lab, root, suite, chosen, whole=not entries)
    return _finish(run_.report(), args, [run_.record.folder], run_.record)


def _plan_elsewhere(
    args: argparse.Namespace, entries: Sequence[KernelEntry], say: Callable[[str], None]
) -> tuple[Planned, ...]:
    """The cells that other machines run; a budget is their time together.

    Which engine it will be is known where a job runs, and whether a cell cannot be: taken
    are those that an emulator can do, as a machine that nests does them sooner.
    """
    vendors = [Vendor(word) for word in args.vendor or Vendor]
    plan = plan_cells(entries, {vendor: _EMULATORS[vendor] for vendor in vendors})
    if not args.budget:
        return plan
    choice = choose(
        [item for item in plan if not item.refused],
        parse_duration(args.budget),
        lambda item: GUESSES[item.cell.engine],
    )
    for item in choice.left_out:
        say(f"left out of the plan for --budget {args.budget}: {item.cell}")
    return choice.chosen


class MatrixRun:
    """One run, from the plan to its report."""

    def __init__(
        self,
        args: argparse.Namespace,
        lab: DuneLab,
        root: Path,
        suite: Suite,
        entries: Sequence[KernelEntry],
        *,
        whole: bool,
    ) -> None:
        self._started = time.monotonic()
        self._started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._args = args
        self._lab = lab
        self._root = root
        self._suite = suite
        self._say = _silent if args.quiet else _say
        self._limit = parse_duration(args.budget) if args.budget else None
        host = survey_host(lab.store.cache.root)
        self._jobs = args.jobs or recommended_workers(host.cores, host.memory_available_mib)
        self._vendors = [Vendor(word) for word in args.vendor or Vendor]
        self._planned = plan_cells(entries, self._engines())
        self._lost = lab.store.matrix.lost if whole else ()
        self.record = Record(args.results.resolve())
        self._seconds = _seconds_before(self.record, suite)

    def _engines(self) -> dict[Vendor, EngineName]:
        """The engine of each vendor; one asked for by name must be able to."""
        if self._args.engine == AUTO:
            return {vendor: self._lab.pick(vendor) for vendor in self._vendors}
        engine = EngineName(self._args.engine)
        vendors = [vendor for vendor in self._vendors if vendor in ENGINE_VENDORS[engine]]
        if not vendors:
            raise UsageError(
                f"engine {engine} cannot do {', '.join(self._vendors)}",
                next_command="dunelab doctor",
            )
        return dict.fromkeys(vendors, engine)

    def report(self) -> MatrixReport:
        """Do all of it."""
        goes_on = self.record.begin(afresh=self._args.fresh)
        if goes_on:
            self._say("the run before was interrupted: what it finished is taken over")
        builds = self._build()
        planned = () if self._args.build_only else self._planned
        rows = self._cells(builds) if planned else {}
        cells = [
            rows.get(str(item.cell)) or _not_run(item, builds[item.cell.kernel]) for item in planned
        ]
        return MatrixReport(
            suite=self._suite.name,
            started=self._started_at,
            seconds=time.monotonic() - self._started,
            commit=git_commit(self._root),
            builds=tuple(builds.values()),
            cells=(*cells, *lost_rows(self._lost)),
        )

    def _build(self) -> dict[str, BuildReport]:
        entries = list({item.entry.id: item.entry for item in self._planned}.values())
        # What all need: without it this ends here, and not in as many rows.
        _ = self._lab.store.builder
        if not self._args.build_only:
            # The library and the tests' programs are the same for all kernels.
            self._lab.store.programs()
        builds = {}
        for build in build_all(self._lab.store, entries, self._say):
            builds[build.kernel] = build
            print(build_lines([build])[0], flush=True)
        api_map = terminal_map(list(builds.values()))
        if api_map is not None:
            console().print(api_map)
        if github.wanted():
            source = self._lab.store.module_source.relative_to(self._root)
            found = map_annotations(list(builds.values()), source.as_posix())
            print(github.lines(found), end="", flush=True)
        return builds

    def _cells(self, builds: dict[str, BuildReport]) -> dict[str, CellReport]:
        rows: dict[str, CellReport] = {}
        able = [item for item in self._planned if not item.refused and builds[item.cell.kernel].ok]
        keys: dict[str, str] = {}
        fresh = []
        for item in able:
            keys[str(item.cell)] = key = self._key(item)
            known = self.record.done(item.cell, key)
            if known is not None:
                rows[str(item.cell)] = known
            else:
                fresh.append(item)
        choice = choose(fresh, self._core_seconds(), self._estimate)
        for item in choice.left_out:
            rows[str(item.cell)] = self._left_out(item)
        runner = CellRunner(self._root, self._suite, self._jobs, self._say)
        work = [(item, self.record.cell_folder(item.cell)) for item in choice.chosen]
        for item, report in runner.run(work, self._fits):
            if report is None:
                rows[str(item.cell)] = self._left_out(item)
            else:
                rows[str(item.cell)] = report
                self.record.keep(item.cell, keys[str(item.cell)], report)
                self._annotate(self.record.cell_folder(item.cell))
        return rows

    def _annotate(self, folder: Path) -> None:
        """In a job of GitHub's: a cell's failures at their lines."""
        file = folder / RESULTS_FILE
        if github.wanted() and file.is_file():
            found = github.of_results(read_results(file).results, self._root)
            print(github.lines(found), end="", flush=True)

    def _key(self, item: Planned) -> str:
        """All that a cell's result depends on."""
        store = self._lab.store
        image = store.guest_image(item.cell.kernel)
        digest = Digest("matrix cell").text("image", image.digest)
        digest.text("cell", str(item.cell)).text("suite", self._suite.name)
        digest.text("programs", store.programs().dir.name)
        digest.tree("acceptance", self._root / "harness/acceptance")
        return digest.tree("harness", Path(dunelab.__file__).parent).hex()

    def _left(self) -> float | None:
        if self._limit is None:
            return None
        return max(0.0, self._started + self._limit - time.monotonic())

    def _core_seconds(self) -> float | None:
        left = self._left()
        return None if left is None else left * self._jobs

    def _fits(self, item: Planned) -> bool:
        left = self._left()
        return left is None or self._estimate(item) <= left

    def _estimate(self, item: Planned) -> float:
        engine = item.cell.engine
        return self._seconds.get(str(engine), GUESSES[engine])

    def _left_out(self, item: Planned) -> CellReport:
        reason = (
            f"left out: takes about {self._estimate(item):.0f} s, more than is left of "
            f"--budget {self._args.budget}"
        )
        return replace(_row(item), cause=reason)


def _row(item: Planned) -> CellReport:
    cell = item.cell
    return CellReport(cell.kernel, str(cell.vendor), Verdict.NOT_RUN, cell=str(cell))


def _not_run(item: Planned, build: BuildReport) -> CellReport:
    """A cell without a result: its kernel is not there, broke the build, or it cannot be."""
    row = replace(_row(item), release=build.release)
    if build.failure:
        return replace(row, verdict=Verdict.FAIL, cause=build.cause, evidence=build.evidence)
    return replace(row, cause=build.missing or item.refused)


def _seconds_before(record: Record, suite: Suite) -> dict[str, float]:
    """What a cell of each engine took in the run before, if that ran the same suite."""
    document = record.folder / DOCUMENT
    if not document.is_file():
        return {}
    before = read_report(document)
    if before.suite != suite.name:
        return {}
    seconds: dict[str, float] = {}
    for cell in before.cells:
        if cell.verdict is Verdict.PASS:
            engine = cell.cell.partition("-")[0]
            seconds[engine] = max(seconds.get(engine, 0.0), cell.seconds)
    return seconds


def _finish(
    report: MatrixReport,
    args: argparse.Namespace,
    folders: Sequence[Path],
    record: Record | None = None,
) -> int:
    """Write all documents; the cells' evidence lies below ``folders``."""
    folder: Path = args.results.resolve()
    written = list(write_all(report, folder))
    if report_kcidb.is_there():
        known = kcidb.commit_hash(find_repo_root(), report.commit)
        document = kcidb.document(report, cell_runs(folders), known, args.origin)
        text = json.dumps(document, indent=1) + "\n"
        written.append(write_atomically(folder / kcidb.FILE, text))
    else:
        (folder / kcidb.FILE).unlink(missing_ok=True)
        _say(f"no {kcidb.FILE}, nothing here validates it: pip install '.[kcidb]'")
    if record is not None:
        record.end()
    if report.cells:
        console().print(terminal_table(report))
    print(summary(report))
    print("written: " + ", ".join(str(path) for path in written))
    return exit_status(report)


def console() -> Console:
    """The terminal, or a log file, which is as wide as the table wants."""
    found = Console()
    return found if found.is_terminal else Console(width=200)


def _say(text: str) -> None:
    print(f"dunelab: {text}", file=sys.stderr, flush=True)


def _silent(_text: str) -> None:
    return None
