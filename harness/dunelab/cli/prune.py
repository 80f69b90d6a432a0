# SPDX-License-Identifier: MIT
"""``dunelab prune``: give disk space back."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from dunelab.cli.build import mib
from dunelab.images.cache import Cache, Entry

NAME = "prune"
HELP = "delete what the cache no longer needs"

_DEFAULT_DAYS = 14.0
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to keep."""
    parser.add_argument(
        "--keep-days",
        type=float,
        metavar="DAYS",
        help=f"keep what was used within DAYS (default: {_DEFAULT_DAYS:.0f}, "
        "unless --keep-size or --all is given)",
    )
    parser.add_argument(
        "--keep-size",
        type=parse_size,
        metavar="SIZE",
        help="keep at most SIZE (such as 2G), the longest unused goes first",
    )
    parser.add_argument("--all", action="store_true", help="delete everything that is not in use")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be deleted")


def run(args: argparse.Namespace) -> int:
    """Prune and report."""
    days: float | None = args.keep_days
    limit: int | None = args.keep_size
    if args.all:
        limit = 0
    elif days is None and limit is None:
        days = _DEFAULT_DAYS
    cache = Cache()
    report = cache.prune(keep_days=days, keep_bytes=limit, dry_run=args.dry_run)
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "kept", "in use", "would go" if args.dry_run else "deleted"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    counts = [_by_kind(part) for part in (report.kept, report.busy, report.removed)]
    for kind in sorted({kind for count in counts for kind in count}):
        table.add_row(kind, *(str(count[kind]) for count in counts))
    console = Console()
    console.print(table)
    verb = "would be freed" if args.dry_run else "freed"
    console.print(f"{mib(report.freed)} {verb} in {cache.root}", highlight=False)
    return 0


def _by_kind(entries: Iterable[Entry]) -> Counter[str]:
    return Counter(entry.kind for entry in entries)


def parse_size(text: str) -> int:
    """``2G``, ``500M``, ``1.5GiB`` in bytes."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 2G or 500M")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])
