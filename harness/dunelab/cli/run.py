# SPDX-License-Identifier: MIT
"""``dunelab run``: the main job: build, boot, push, run, collect, assert, report."""

from __future__ import annotations

import argparse
import time

from dunelab.cli import suite
from dunelab.cli.session import progress_on_stderr
from dunelab.dune.lab import DuneLab
from dunelab.errors import InfrastructureError
from dunelab.images.store import find_repo_root
from dunelab.results.report import read_results
from dunelab.results.schema import Outcome

NAME = "run"
HELP = """Build module and library, boot a guest with VT-x and one with SVM on the engines
that auto picks, run a choice of the guest programs in them, and report.  --all runs
the others as well.

  dunelab run
  dunelab run --vendor intel --kernel debian-6.1
  dunelab run --all          the whole acceptance suite"""

PROGRAMS = (
    "harness/acceptance/test_programs.py::test_behaviour",
    "harness/acceptance/test_programs.py::test_bench",
)
# What shows that all of it works here; each kind of thing once, so that the job
# stays a matter of minutes.  The rest is for --all.
SHORT = (
    "bench or enter or exceptions or exit_status or libc_after or migrate or pagefault"
    " or redzone or signals or syscall_abi or children or threads or two_processes"
)
EVERYTHING = ("harness/acceptance",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``dunelab run``."""
    suite.add_arguments(parser)
    parser.add_argument(
        "--all", action="store_true", help="the whole acceptance suite, alarms included"
    )


def run(args: argparse.Namespace) -> int:
    """Build first, with progress; then the suite; then say where the evidence is."""
    started = time.monotonic()
    root = find_repo_root()
    with progress_on_stderr(quiet=False) as progress:
        lab = DuneLab(root, progress)
        for kernel in args.kernel or [lab.default_kernel()]:
            lab.store.guest_image(kernel)
        lab.store.programs()
    built = time.monotonic()
    tests, select = (EVERYTHING, "") if args.all else (PROGRAMS, SHORT)
    status = suite.run(args, tests, select, ["--thorough"])
    found = suite.results_file(args)
    if not found.exists():
        raise InfrastructureError(
            f"the run left no results (pytest ended with {status})",
            next_command="dunelab doctor",
        )
    results = read_results(found).results
    counts = {outcome: sum(r.outcome is outcome for r in results) for outcome in Outcome}
    print(
        f"build {built - started:.0f} s, run {time.monotonic() - built:.0f} s: "
        + ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    )
    print(f"evidence: {found.parent} (results.json, junit.xml, logs/)")
    return status
