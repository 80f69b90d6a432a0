# SPDX-License-Identifier: MIT
"""``dunelab kernels``: the matrix, and what each entry resolved to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from dunelab.cli.matrix import console
from dunelab.cli.session import progress_on_stderr
from dunelab.errors import UsageError
from dunelab.images.lost import Check
from dunelab.images.store import MATRIX_FILE, Store
from dunelab.images.updates import Survey, add_entries

NAME = "kernels"
HELP = "list the kernels of images/kernels.toml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to look into the archive again."""
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="look up the newest packages of every recipe again (needs the network)",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="say which newer packages the archive has, and which series no entry covers; "
        "changes nothing (needs the network)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="with --update: add an entry to images/kernels.toml for each series without one",
    )
    parser.add_argument(
        "--lost",
        action="store_true",
        help="for the kernels that have no headers: whether their images export what the module "
        "imports that is built for the nearest others (needs the network the first time)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Print one line per kernel; nothing is downloaded without ``--refresh``."""
    with progress_on_stderr(args.quiet) as report:
        store = Store.open(report, refresh=args.refresh)
        if args.write and not args.update:
            raise UsageError("--write goes with --update", next_command="dunelab kernels --update")
        if args.lost:
            print_checks(list(store.check_lost()))
            return 0
        if args.update:
            found = store.survey()
            print_survey(found)
            if args.write:
                add_entries(store.repo_root / MATRIX_FILE, found.uncovered)
            return 0
        if args.refresh:
            store.refresh()
    table = Table(box=None, pad_edge=False)
    for heading in ("kernel", "wanted", "release", "default"):
        table.add_column(heading)
    for entry in store.matrix.kernels:
        record = store.recorded(entry)
        release = record.label if record else "not looked up yet"
        mark = "*" if entry.id == store.matrix.default else ""
        table.add_row(entry.id, entry.wanted, release, mark)
    debug = store.debug_recipe
    table.add_row(debug.id, f"built from {debug.package} in {debug.suite}", "when asked for", "")
    console = Console()
    console.print(table)
    for lost in store.matrix.lost:
        console.print(f"not here: {', '.join(lost.series)}: {lost.reason}", markup=False)
    return 0


def print_checks(checks: Sequence[Check]) -> None:
    """A line per lost kernel and build of the module."""
    table = Table(box=None, pad_edge=False)
    for heading in ("series", "image", "module for", "imports", "not exported", "for KVM alone"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        missing = check.drift
        table.add_row(
            check.series,
            check.release,
            check.built_for,
            str(missing.wanted),
            ", ".join(missing.gone) or "none",
            ", ".join(missing.reserved) or "none",
        )
    console().print(table)


def print_survey(found: Survey) -> None:
    """Newer packages, new series, suites that nothing was heard of."""
    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("kernel", "on record", "in the archive"):
        table.add_column(heading, overflow="fold")
    for offer in found.offers:
        table.add_row(offer.kernel, offer.recorded, offer.offered if offer.newer else "the same")
    console.print(table)
    for new in found.uncovered:
        console.print(
            f"{new.suite} has {new.series} ({', '.join(new.flavours)}), and no entry of "
            "images/kernels.toml covers it"
        )
    for suite, reason in found.unreachable:
        console.print(f"not looked at: {suite}: {reason}", markup=False)
    if any(offer.newer for offer in found.offers):
        console.print("take the newer packages: dunelab kernels --refresh")
