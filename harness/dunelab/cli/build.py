# SPDX-License-Identifier: MIT
"""``dunelab build``: fill the cache, and say what is in it."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dunelab.cli.session import add_image_argument, progress_on_stderr
from dunelab.images.cmdline import kernel_cmdline
from dunelab.images.digest import sha256_file
from dunelab.images.store import Store
from dunelab.spec import EngineName, ImageKind

NAME = "build"
HELP = "build module, library, guest images and emulator into the cache"


@dataclass(frozen=True)
class Row:
    """One built thing, as reported."""

    what: str
    detail: str
    digest: str
    size: int
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which kernels, and which parts to leave out."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--kernel",
        action="append",
        metavar="ID",
        help="kernel of images/kernels.toml, or the path of one of your own, repeatable "
        "(default: the one marked there)",
    )
    chosen.add_argument("--all", action="store_true", help="every kernel of images/kernels.toml")
    add_image_argument(parser)
    parser.add_argument(
        "--no-bochs", action="store_true", help="leave out the emulator and its boot CD"
    )
    parser.add_argument(
        "--module",
        type=Path,
        metavar="DIR",
        help="build this kernel module instead of src/kmod",
    )
    parser.add_argument(
        "--qemu",
        metavar="SUITE",
        help="make the QEMU of a Debian suite (bullseye, trixie, sid) and print its path, for "
        "DUNELAB_QEMU; nothing else",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    """Build, then print one line per product."""
    with progress_on_stderr(args.quiet) as report:
        store = Store.open(report, module_source=args.module.resolve() if args.module else None)
        if args.qemu is not None:
            print(store.qemu(args.qemu))
            return 0
        rows = list(_build(store, args))
    Console().print(_table(rows))
    return 0


def _build(store: Store, args: argparse.Namespace) -> Iterator[Row]:
    matrix = store.matrix
    kind = ImageKind(args.image)
    wanted = args.kernel or [None]
    entries = matrix.kernels if args.all else [store.entry(kernel) for kernel in wanted]

    start = time.monotonic()
    builder = store.builder
    yield _row("builder root", builder.root.parent.name[:12], builder.root.parent, start)

    start = time.monotonic()
    programs = store.programs()
    yield _row("programs", str(len(_files(programs.programs))), programs.dir, start)
    if not args.no_bochs:
        start = time.monotonic()
        bochs = store.bochs()
        detail = f"{bochs.version}, {bochs.origin}"
        yield _row("bochs", detail, bochs.binary, start)
        if bochs.reason:
            Console(stderr=True).print(f"Bochs is the packaged one: {bochs.reason}", markup=False)
    if kind is ImageKind.FULL:
        start = time.monotonic()
        disk = store.root_disk()
        count = len(disk.packages.read_text(encoding="utf-8").splitlines())
        yield _row("root disk", f"{count} packages", disk.path, start)
    for entry in entries:
        start = time.monotonic()
        kernel = store.kernel(entry.id)
        yield _row("kernel", kernel.release, kernel.vmlinuz, start)
        start = time.monotonic()
        module = store.module(entry.id)
        yield _row(f"module {module.name}", module.release, module.path_stripped, start)
        start = time.monotonic()
        image = store.guest_image(entry.id, kind=kind)
        yield _row("initrd", entry.id, image.initrd, start)
        if not args.no_bochs:
            start = time.monotonic()
            iso = store.iso(image, kernel_cmdline(EngineName.BOCHS))
            yield _row("boot CD", entry.id, iso, start)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def _row(what: str, detail: str, path: Path, start: float) -> Row:
    """A file is named by its checksum, a folder by the digest it is cached under."""
    seconds = time.monotonic() - start
    if path.is_dir():
        size = sum(item.stat().st_size for item in _files(path))
        return Row(what, detail, path.name, size, seconds)
    return Row(what, detail, sha256_file(path), path.stat().st_size, seconds)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("product", "", "digest"):
        table.add_column(heading)
    for heading in ("size", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(row.what, row.detail, row.digest[:16], mib(row.size), f"{row.seconds:.1f}")
    return table


def mib(size: int) -> str:
    """A size for people: ``3.8 MiB``, ``13 KiB``."""
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / 1024:.0f} KiB"
