# SPDX-License-Identifier: MIT
"""What exec, shell and show-command share: machine options, progress, a guest."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console as RichConsole

from dunelab.deadline import Deadline
from dunelab.dune.lab import BOOT_SECONDS
from dunelab.engines.base import Engine
from dunelab.engines.select import AUTO, ENGINE_CHOICES, all_engines, choose, default_vendor
from dunelab.errors import DunelabError
from dunelab.images.store import Store
from dunelab.machine import workdir
from dunelab.machine.machine import Machine
from dunelab.machine.states import boot_or_restore
from dunelab.machine.watch import SplatFinder
from dunelab.spec import Cell, ImageKind, MachineSpec, Vendor

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """A machine somebody asked for on the command line, not started yet."""

    engine: Engine
    spec: MachineSpec
    store: Store


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that describe a machine."""
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--engine",
        choices=ENGINE_CHOICES,
        default=AUTO,
        help="what executes the guest; auto prefers a kvm that nests (default: auto)",
    )
    machine.add_argument(
        "--vendor",
        choices=[vendor.value for vendor in Vendor],
        help="whose extension the guest has: intel is VT-x, amd is SVM "
        "(default: the engine's first)",
    )
    machine.add_argument(
        "--kernel",
        metavar="ID",
        help="kernel of images/kernels.toml, or the path of one of your own (docs/kernels.md)",
    )
    add_image_argument(machine)
    machine.add_argument("--cpus", type=_positive, default=None, help="guest CPUs (default: 2)")
    machine.add_argument(
        "--memory",
        type=_positive,
        metavar="MIB",
        help="guest memory (default: "
        + ", ".join(f"{kind.memory_mib} for {kind}" for kind in ImageKind)
        + ")",
    )
    machine.add_argument("--cpu-model", metavar="MODEL", help="in the engine's own words")
    machine.add_argument(
        "--icount",
        action="store_true",
        help="tcg only: time counts instructions; one CPU, repeatable figures",
    )
    machine.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="WORD",
        help="add a word to the kernel command line",
    )


def add_image_argument(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Which of the two guests."""
    parser.add_argument(
        "--image",
        choices=[kind.value for kind in ImageKind],
        default=ImageKind.SMALL.value,
        help="small is busybox in memory, full a Debian root on a disk, with compilers, "
        "interpreters and servers (default: small)",
    )


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of commands that start a machine."""
    parser.add_argument("--cold", action="store_true", help="boot even if a state is saved")
    parser.add_argument("--no-module", action="store_true", help="do not load dune.ko")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def request(args: argparse.Namespace, folder: Path, progress: Progress) -> Request:
    """Turn options into a machine; builds what its image needs."""
    store = Store.open(progress=progress)
    engines = all_engines(store)
    vendor = Vendor(args.vendor) if args.vendor else default_vendor(engines, args.engine)
    engine = choose(engines, args.engine, vendor)
    kind = ImageKind(args.image)
    image = store.guest_image(args.kernel, kind=kind)
    spec = MachineSpec(
        cell=Cell(engine.name, vendor, image.kernel),
        image=image,
        workdir=folder,
        cpus=args.cpus or (1 if args.icount else 2),
        memory_mib=args.memory or image.memory_mib,
        cpu_model=args.cpu_model,
        icount=args.icount,
        append=tuple(args.append),
    )
    return Request(engine, spec, store)


@contextlib.contextmanager
def guest(args: argparse.Namespace) -> Iterator[Machine]:
    """A running guest for one command; its folder stays when there is evidence in it."""
    folder = workdir.create("guest")
    try:
        with progress_on_stderr(args.quiet) as progress:
            asked = request(args, folder, progress)
            machine = start(asked, progress, cold=args.cold)
        with machine:
            yield machine
    except DunelabError:
        if any(folder.glob("*.log")):
            workdir.keep(folder)
        raise
    finally:
        workdir.remove(folder)


def start(asked: Request, progress: Progress, *, cold: bool) -> Machine:
    """Boot or restore what was asked for."""
    deadline = Deadline.after(
        BOOT_SECONDS[asked.engine.name], f"first command on {asked.spec.cell}"
    )
    finder = splat_finder()
    if cold:
        return Machine.boot(asked.engine, asked.spec, deadline, finder, progress)
    return boot_or_restore(asked.store.cache, asked.engine, asked.spec, deadline, finder, progress)


def splat_finder() -> SplatFinder:
    """The detector of kernel splats."""
    from dunelab.results.splat import find_splats

    return find_splats


@contextlib.contextmanager
def progress_on_stderr(quiet: bool) -> Iterator[Progress]:
    """A spinner on a terminal, plain lines elsewhere; nothing when ``quiet``."""
    if quiet:
        yield lambda text: None
        return
    console = RichConsole(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda text: print(f"dunelab: {text}", file=sys.stderr, flush=True)
        return
    with console.status("starting", spinner="dots") as status:
        yield status.update


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return number
