# SPDX-License-Identifier: MIT
"""``dunelab bench``: what things cost, in ticks or cycles, natively and in Dune mode.

The programs of tests/bench measure both ways themselves.  They run through
the same tests as everywhere else, three times each, so that a figure printed
here is one that was gated: a kernel that complained or runs that disagree
fail the command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from dunelab.bench import baseline, gate
from dunelab.bench.annotate import of_verdicts
from dunelab.bench.rows import read_specs, suite_programs, tables
from dunelab.bench.svg import plot
from dunelab.bench.table import text_table
from dunelab.cli import suite
from dunelab.errors import InfrastructureError, UsageError
from dunelab.images.store import find_repo_root
from dunelab.results import github
from dunelab.results.report import read_results, render, write_atomically
from dunelab.results.schema import Outcome, Run
from dunelab.spec import EngineName

NAME = "bench"
HELP = """Measure costs on both vendors, natively and in Dune mode.

  dunelab bench --json costs.json --svg costs.svg
  dunelab bench --engine bochs --vendor intel
  dunelab bench --suite apps                 the applications alone, with what takes minutes
  dunelab bench --check                      the gate: has a cost moved since the baseline?
  dunelab bench --accept 'shorter gate'      measure three times, rewrite ci/baselines
  dunelab bench --from costs.json --check    the same of figures that were measured before

Emulators count ticks (instructions), hardware counts cycles; each table says which.
native/Dune is how many times cheaper than natively; below 1 it is dearer.

The gate compares emulators only (without --engine it runs tcg and bochs), and a
baseline only with figures of the same kernel package, compiler and emulator.
docs/benchmarks.md explains rows, bands and baselines."""

TESTS = "harness/acceptance/test_programs.py::test_bench"
FAILED = 1
# The engines of the gate: by themselves they are SVM and VT-x, on any machine.
GATED = (EngineName.TCG, EngineName.BOCHS)
# Guests measured for a baseline: what differs from boot to boot is noise, too.
ACCEPT_REPEAT = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab bench``."""
    suite.add_arguments(parser)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the results there (format: dunelab/results/schema.json)",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also plot the ratios there")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing, take the results of an earlier run",
    )
    parser.add_argument(
        "--suite",
        metavar="NAME",
        help="measure the programs of this suite of rows.toml only, slow ones too",
    )
    parser.add_argument(
        "--repeat",
        type=int,
        metavar="N",
        help=f"measure in N guests, one after the other (default: 1; {ACCEPT_REPEAT} for --accept)",
    )
    judge = parser.add_argument_group("the gate").add_mutually_exclusive_group()
    judge.add_argument(
        "--check",
        action="store_true",
        help="exit status 1 if a median moved out of its band, or vanished",
    )
    judge.add_argument(
        "--accept", metavar="REASON", help="rewrite the baselines of the measured cells"
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="DIR",
        help=f"where the baselines are (default: {baseline.FOLDER} of the repository)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the benches, print their tables, write the files, judge."""
    _refuse_nonsense(args)
    if (args.check or args.accept is not None) and not args.engine:
        args.engine = list(GATED)
    if args.source is not None:
        status, results = 0, read_results(args.source)
    else:
        status, results = _measure(args)
    found = tables(results.results, read_specs())
    print(render(*(text_table(table) for table in found), width=120))
    if args.json is not None:
        write_atomically(args.json.resolve(), json.dumps(results.to_json(), indent=2) + "\n")
        print(f"written: {args.json}")
    if args.svg is not None:
        write_atomically(args.svg.resolve(), plot(found))
        print(f"written: {args.svg}")
    good = (Outcome.PASSED, Outcome.SKIPPED)
    bad = sum(result.outcome not in good for result in results.results)
    if bad:
        print(f"{bad} of {len(results.results)} benches did not pass: {_evidence(args)}")
    return _judge(args, results, status or (FAILED if bad else 0))


def _refuse_nonsense(args: argparse.Namespace) -> None:
    for option in ("json", "svg"):
        path: Path | None = getattr(args, option)
        if path is not None and path.is_dir():
            raise UsageError(f"--{option} {path}: this is a folder")
    if args.source is not None and not args.source.is_file():
        raise UsageError(f"--from {args.source}: there is no such file")
    if args.suite is not None:
        suite_programs(args.suite)
        if args.source is not None or args.check or args.accept is not None:
            raise UsageError("--suite measures a part: leave --from, --check and --accept out")
    if args.source is not None and args.repeat is not None:
        raise UsageError("--from measures nothing: leave --repeat out")
    if args.repeat is not None and args.repeat < 1:
        raise UsageError("--repeat must be 1 or more")
    if args.accept is not None and not args.accept.strip():
        raise UsageError("--accept wants a reason, for those who read the baseline later")


def _measure(args: argparse.Namespace) -> tuple[int, Run]:
    """Status and results of all repetitions; the first that fails ends them."""
    repeat = args.repeat or (ACCEPT_REPEAT if args.accept is not None else 1)
    status = 0
    more = ["--costs"] if args.suite is None else ["--costs", "--slow"]
    select = "" if args.suite is None else suite_programs(args.suite)
    runs: list[Run] = []
    while len(runs) < repeat and not status:
        status = suite.run(args, [TESTS], select, more)
        file = suite.results_file(args)
        if not file.exists():
            raise InfrastructureError(
                f"the benches left no results (pytest ended with {status})",
                next_command="dunelab doctor",
            )
        runs.append(read_results(file))
    return status, baseline.merge(runs)


def _evidence(args: argparse.Namespace) -> Path:
    source: Path | None = args.source
    return source if source is not None else suite.results_file(args).parent


def _judge(args: argparse.Namespace, results: Run, status: int) -> int:
    folder: Path = args.baselines or find_repo_root() / baseline.FOLDER
    if args.accept is not None:
        if status:
            print("nothing accepted: figures of benches that do not pass are no baseline")
            return status
        written = gate.accept(results, folder, args.accept.strip())
        print("\n".join(gate.wide_bands(written)))
        if not written:
            print("nothing accepted: nothing was measured that can be gated")
        return 0 if written else FAILED
    if args.check:
        passed, lines = gate.check(results, folder)
        print("\n".join(lines))
        if github.wanted():
            verdicts = gate.judge(results, folder)
            print(github.lines(of_verdicts(verdicts, folder, find_repo_root())), end="")
        return status or (0 if passed else FAILED)
    return status
