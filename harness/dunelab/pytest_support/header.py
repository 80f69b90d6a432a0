# SPDX-License-Identifier: MIT
"""The one-line header by which a guest program says how it wants to be run.

    /* dunelab: cpus=1 timeout=60 slow=120 icount image=full */

Read from the C source, so that nothing has to be built to know what exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dunelab.errors import UsageError
from dunelab.spec import EngineName, ImageKind, Vendor


class ProgramKind(StrEnum):
    """The folder of ``tests/`` a program lies in, which says how it is judged."""

    BEHAVIOUR = "behaviour"
    BENCH = "bench"
    NATIVE = "native"


@dataclass(frozen=True)
class Variant:
    """The parts of a guest a test may ask for, apart from its cell."""

    cpus: int = 2
    icount: bool = False
    append: tuple[str, ...] = ()
    cpu_model: str | None = None
    image: ImageKind = ImageKind.SMALL

    def __str__(self) -> str:
        parts = [f"{self.cpus}cpu"]
        if self.image is not ImageKind.SMALL:
            parts.append(self.image.value)
        if self.icount:
            parts.append("icount")
        if self.cpu_model is not None:
            parts.append(self.cpu_model)
        parts.extend(self.append)
        return "-".join(parts)


SMP = Variant(cpus=2)


def variant_from(words: Mapping[str, Any]) -> Variant:
    """A variant as a ``guest_variant`` mark spells it."""
    return Variant(**{**words, "image": ImageKind(words.get("image", ImageKind.SMALL))})


# Transparent huge pages give page-fault rows two values, and a randomised layout
# changes how many page tables a process has, so what it costs to set one up.
STEADY_MEMORY = ("transparent_hugepage=never", "norandmaps")


def bench_variant(engine: EngineName) -> Variant:
    """A guest whose tick counts repeat.

    TCG: counting instructions excludes several vCPU threads.  Bochs: the LAPIC
    timer adds an exit every 18,500 ticks.  KVM measures hardware: nothing to
    fix there but memory.
    """
    if engine is EngineName.TCG:
        return Variant(cpus=1, icount=True, append=STEADY_MEMORY)
    if engine is EngineName.BOCHS:
        return Variant(cpus=1, append=("nolapic_timer", *STEADY_MEMORY))
    return Variant(cpus=1, append=STEADY_MEMORY)


# What a slow test is taken to need that does not say.
SLOW_SECONDS = 60


@dataclass(frozen=True)
class ProgramOptions:
    """What a header may say; None means the default of the program's kind.

    ``spread``: by how many percent the runs of a cost may differ on an emulator.
    ``slow``: how many seconds it takes on the slowest engine; 0 if it is not a slow one.
    ``slow_bochs``: the same for a program that is slow on Bochs alone, or slower there.
    ``thorough``: the default run leaves it out, that of CI does not.
    ``smp``: it is about two CPUs, and says nothing on one.
    """

    cpus: int | None = None
    timeout: float = 60.0
    slow: int = 0
    slow_bochs: int = 0
    thorough: bool = False
    smp: bool = False
    icount: bool = False
    vendor: Vendor | None = None
    runs: int | None = None
    spread: int = 1
    args: str = ""
    image: ImageKind = ImageKind.SMALL


@dataclass(frozen=True)
class Program:
    """One guest program: ``behaviour/fork`` is built from tests/behaviour/fork.c."""

    kind: ProgramKind
    name: str
    source: Path
    options: ProgramOptions
    # A cost is measured once, cold: it is seen to work, and says roughly what it is.
    once: bool = False

    @property
    def path(self) -> str:
        """Its place in the set of compiled programs."""
        return f"{self.kind}/{self.name}"

    @property
    def runs(self) -> int:
        """How often it runs: costs must repeat, behaviour need not."""
        if self.once:
            return 1
        if self.options.runs is not None:
            return self.options.runs
        return 3 if self.kind is ProgramKind.BENCH else 1

    @property
    def warm_ups(self) -> int:
        """Runs before the measured ones.

        The first run of a cost in a guest also pays for filling the page cache
        and the kernel's free lists: 5 % on set-up costs, where the runs after
        it agree to 0.1 %.
        """
        return 1 if self.kind is ProgramKind.BENCH and not self.once else 0

    def variant(self, engine: EngineName) -> Variant:
        """The guest it needs on an engine."""
        options = self.options
        counted = self.kind is ProgramKind.BENCH or options.icount
        base = replace(bench_variant(engine) if counted else SMP, image=options.image)
        if options.cpus is None or options.cpus == base.cpus:
            return base
        return replace(base, cpus=options.cpus, icount=base.icount and options.cpus == 1)


def on_the_other_number_of_cpus(program: Program) -> Program | None:
    """A program of one CPU on two and the reverse; None if that is no test of its own."""
    options = program.options
    if options.smp or options.slow:
        return None
    cpus = 1 if (options.cpus or SMP.cpus) == SMP.cpus else SMP.cpus
    return replace(program, options=replace(options, cpus=cpus))


_HEADER = re.compile(r"/\*\s*dunelab:(?P<words>[^*\n]*)\*/")
# A header stands at the top; further down it would be an example or a string.
_TOP_LINES = 40
SOURCES = (".c", ".cc")


def parse_header(text: str, where: str) -> ProgramOptions:
    """The options in a source's text; no header means all defaults."""
    top = "\n".join(text.splitlines()[:_TOP_LINES])
    matches = list(_HEADER.finditer(top))
    if not matches:
        return ProgramOptions()
    if len(matches) > 1:
        raise UsageError(f"{where}: more than one 'dunelab:' header")
    options = ProgramOptions()
    for word in matches[0]["words"].split():
        options = _apply(options, word, where)
    return options


def _apply(options: ProgramOptions, word: str, where: str) -> ProgramOptions:
    key, equals, value = word.partition("=")
    try:
        match key, bool(equals):
            case "slow", False:
                return replace(options, slow=SLOW_SECONDS)
            case "slow", True:
                return replace(options, slow=_at_least_one(value))
            case "slow-bochs", True:
                return replace(options, slow_bochs=_at_least_one(value))
            case "thorough", False:
                return replace(options, thorough=True)
            case "smp", False:
                return replace(options, smp=True)
            case "icount", False:
                return replace(options, icount=True)
            case "cpus", True:
                return replace(options, cpus=_at_least_one(value))
            case "runs", True:
                return replace(options, runs=_at_least_one(value))
            case "spread", True:
                return replace(options, spread=_at_least_one(value))
            case "timeout", True:
                return replace(options, timeout=float(_at_least_one(value)))
            case "vendor", True:
                return replace(options, vendor=Vendor(value))
            case "image", True:
                return replace(options, image=ImageKind(value))
            case "args", True:
                return replace(options, args=value.replace(",", " "))
    except ValueError as error:
        raise UsageError(f"{where}: header word '{word}': {error}") from error
    raise UsageError(
        f"{where}: unknown header word '{word}'; known are cpus=N, runs=N, timeout=SECONDS, "
        "spread=PERCENT, vendor=intel|amd, args=A,B, image=small|full, slow[=SECONDS], "
        "slow-bochs=SECONDS, thorough, smp, icount"
    )


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError("must be 1 or more")
    return number


def list_programs(tests: Path) -> tuple[Program, ...]:
    """All programs below ``tests``, in the order of their paths."""
    return tuple(
        Program(kind, source.stem, source, parse_header(source.read_text("utf-8"), str(source)))
        for kind in ProgramKind
        for source in sorted((tests / kind).iterdir() if (tests / kind).is_dir() else ())
        if source.suffix in SOURCES
    )
