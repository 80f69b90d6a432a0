# SPDX-License-Identifier: MIT
"""``dunelab package``: Debian packages of module source, library and dune-run."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dunelab.cli.build import mib
from dunelab.cli.session import progress_on_stderr
from dunelab.images.digest import sha256_file
from dunelab.images.store import Store

NAME = "package"
HELP = "build the Debian packages and have lintian look at them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where they go."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("results/packages"),
        help="folder the packages are copied to (default: results/packages)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Build or take from the cache, copy, list."""
    with progress_on_stderr(args.quiet) as report:
        built = Store.open(report).debian_packages()
    args.output.mkdir(parents=True, exist_ok=True)
    table = Table(box=None, pad_edge=False)
    for heading in ("package", "sha256"):
        table.add_column(heading)
    table.add_column("size", justify="right")
    for path in built.packages:
        shutil.copy(path, args.output / path.name)
        table.add_row(path.name, sha256_file(path)[:16], mib(path.stat().st_size))
    console = Console()
    console.print(table)
    console.print(f"in {args.output}", highlight=False)
    return 0
