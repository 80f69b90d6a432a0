# SPDX-License-Identifier: MIT
"""What ``dunelab run`` and ``dunelab bench`` share: a part of the acceptance suite.

There is one way to run a guest program, the pytest plugin's; the commands
choose what, on which cells, and where the evidence goes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dunelab.cli.host import recommended_workers, survey_host
from dunelab.images.store import find_repo_root
from dunelab.pytest_support.options import AUTO
from dunelab.results.report import RESULTS_FILE
from dunelab.spec import EngineName, Vendor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Cells, results and workers."""
    cells = parser.add_argument_group("cells")
    cells.add_argument(
        "--engine",
        action="append",
        choices=[AUTO, *EngineName],
        help="engine, repeatable (default: auto, which prefers a kvm that nests)",
    )
    cells.add_argument(
        "--vendor",
        action="append",
        choices=list(Vendor),
        help="vendor, repeatable (default: both)",
    )
    cells.add_argument(
        "--kernel",
        action="append",
        metavar="ID",
        help="kernel of images/kernels.toml, or the path of one of your own, repeatable",
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where the evidence goes (default: results)",
    )
    parser.add_argument(
        "-n", "--workers", type=int, metavar="N", help="test workers (default: what doctor says)"
    )


def pytest_arguments(
    args: argparse.Namespace, tests: Sequence[str], root: Path, workers: int, select: str = ""
) -> list[str]:
    """The options of this command as pytest's, as one pure function."""
    words = [str(root / test) for test in tests]
    words += ["-k", select] if select else []
    words += ["-q", f"--rootdir={root}", "-c", str(root / "pyproject.toml")]
    words += ["--results", str(args.results.resolve()), "-n", str(workers)]
    for engine in args.engine or [AUTO]:
        words += ["--engine", str(engine)]
    for vendor in args.vendor or []:
        words += ["--vendor", str(vendor)]
    for kernel in args.kernel or []:
        words += ["--kernel", kernel]
    return words


def results_file(args: argparse.Namespace) -> Path:
    """Where the run leaves its results."""
    folder: Path = args.results
    return folder.resolve() / RESULTS_FILE


def run(
    args: argparse.Namespace, tests: Sequence[str], select: str = "", more: Sequence[str] = ()
) -> int:
    """Run pytest in a process of its own; its exit status.

    ``select`` is an expression for pytest's ``-k``, ``more`` are options of pytest's.
    """
    root = find_repo_root()
    host = survey_host(root)
    workers = args.workers or recommended_workers(host.cores, host.memory_available_mib)
    # A result of an earlier run must not be taken for this one's.
    results_file(args).unlink(missing_ok=True)
    words = [*pytest_arguments(args, tests, root, workers, select), *more]
    command = [sys.executable, "-m", "pytest", *words]
    process = subprocess.Popen(command, cwd=root)
    try:
        return process.wait()
    except KeyboardInterrupt:
        # The terminal has told pytest as well; let it end its guests.
        return process.wait()
