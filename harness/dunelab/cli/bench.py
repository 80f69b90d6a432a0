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

from dunelab.cli import suite
from dunelab.errors import InfrastructureError, UsageError
from dunelab.results.report import read_results, write_atomically
from dunelab.results.schema import Outcome

NAME = "bench"
HELP = """Measure costs on both vendors, natively and in Dune mode.

  dunelab bench --json costs.json
  dunelab bench --engine bochs --vendor intel

Emulators count ticks (instructions), hardware counts cycles; each figure says which."""

TESTS = "harness/acceptance/test_programs.py::test_bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab bench``."""
    suite.add_arguments(parser)
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write the results there (format: dunelab/results/schema.json)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the benches (the suite prints their table) and write the file."""
    if args.json is not None and args.json.is_dir():
        raise UsageError(f"--json {args.json}: this is a folder")
    status = suite.run(args, [TESTS])
    found = suite.results_file(args)
    if not found.exists():
        raise InfrastructureError(
            f"the benches left no results (pytest ended with {status})",
            next_command="dunelab doctor",
        )
    results = read_results(found)
    if args.json is not None:
        document = json.dumps(results.to_json(), indent=2)
        write_atomically(args.json.resolve(), document + "\n")
        print(f"written: {args.json}")
    bad = sum(result.outcome not in (Outcome.PASSED, Outcome.SKIPPED) for result in results.results)
    if bad:
        print(f"{bad} of {len(results.results)} benches did not pass: {found.parent}")
    return status
