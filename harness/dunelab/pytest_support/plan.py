# SPDX-License-Identifier: MIT
"""What a run is to do, worked out from pytest's options.

On an xdist worker the cells come from the controller, so that ``auto`` is
decided once and for all workers alike.
"""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path

import pytest

from dunelab.errors import DunelabError
from dunelab.pytest_support.header import Program, ProgramKind, list_programs
from dunelab.pytest_support.lab import Lab
from dunelab.pytest_support.options import AUTO, CellRequest, cells_of, pairs_of
from dunelab.spec import Cell, EngineName, Vendor

CELLS_KEY = "dunelab_cells"
UNIT_FOLDER = "unit"


def names_tests(config: pytest.Config) -> bool:
    """Whether the command line names tests or their files: then it means them all."""
    return bool(config.option.keyword) or any(
        "::" in word or word.endswith(".py") for word in config.args
    )


class Plan:
    """Options of this session, with the cells they mean."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        option = config.getoption
        self.request = CellRequest(
            engines=tuple(option("dunelab_engines")),
            vendors=tuple(Vendor(word) for word in option("dunelab_vendors")),
            kernels=tuple(option("dunelab_kernels")),
        )
        self.slow: bool = option("dunelab_slow")
        self.costs: bool = option("dunelab_costs")
        self.slow_only: bool = option("dunelab_slow_only")
        self.thorough: bool = (
            option("dunelab_thorough")
            or self.slow
            or self.slow_only
            or self.costs
            or names_tests(config)
        )
        self.slow_minutes: float | None = option("dunelab_slow_minutes")
        self._started = time.monotonic()
        self.cpu_model: str | None = option("dunelab_cpu_model")
        self.fresh: bool = option("dunelab_fresh")
        self.keep_guest: bool = option("dunelab_keep_guest")
        self.guests: int | None = option("dunelab_guests")
        given = option("dunelab_results")
        self.results = (config.invocation_params.dir / (given or "results")).resolve()
        self.writes_results = given is not None or not _unit_only(config)

    @property
    def explicit(self) -> bool:
        """Whether anything was asked for by name."""
        return self.request != CellRequest()

    def wants(self, slow_seconds: int) -> bool:
        """Whether a test is run that takes so long; 0 means it is no slow one."""
        return (self.slow or self.slow_only) if slow_seconds else not self.slow_only

    def slow_seconds_left(self) -> float | None:
        """What is left of the time for slow tests; None if there is no limit."""
        if self.slow_minutes is None:
            return None
        return self._started + self.slow_minutes * 60 - time.monotonic()

    @cached_property
    def lab(self) -> Lab:
        """What boots guests; made when first needed, so that plain runs start fast."""
        lab: Lab = self.config.hook.pytest_dunelab_lab(config=self.config)
        return lab

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The cells of this run; UsageError when they cannot be had."""
        handed_down = getattr(self.config, "workerinput", {}).get(CELLS_KEY)
        if handed_down:
            return tuple(decode_cell(raw) for raw in handed_down)
        try:
            pairs = pairs_of(self.request, self.lab.pick, self._host_vendors())
            kernels = [self.lab.kernel_id(word) for word in self.request.kernels]
            # A kernel of the user's own is in no list, nor is the debug kernel.
            known = (*self.lab.kernels(), *filter(self.lab.is_own_kernel, kernels))
            cells = cells_of(pairs, kernels, known, self.lab.default_kernel())
            self._check(cells)
        except DunelabError as error:
            raise pytest.UsageError(str(error)) from error
        return cells

    def programs(self, kind: ProgramKind) -> tuple[Program, ...]:
        """The guest programs of a kind, from their sources."""
        try:
            found = list_programs(self.config.rootpath / "tests")
        except DunelabError as error:
            raise pytest.UsageError(str(error)) from error
        chosen = tuple(program for program in found if program.kind is kind)
        if not chosen:
            # A folder that moved away must not look like a suite that passed.
            raise pytest.UsageError(f"no guest programs in {self.config.rootpath}/tests/{kind}")
        return chosen

    def _host_vendors(self) -> tuple[Vendor, ...]:
        if EngineName.KVM in self.request.engines and not self.request.vendors:
            return self.lab.host_vendors()
        return tuple(Vendor)

    def _check(self, cells: tuple[Cell, ...]) -> None:
        """Engines asked for by name must work here; ``auto`` looked already."""
        if not self.request.engines or AUTO in self.request.engines:
            return
        for engine, vendor in dict.fromkeys((cell.engine, cell.vendor) for cell in cells):
            verdict = self.lab.check(engine, vendor)
            if not verdict.ok:
                following = f"\n  next:     {verdict.next_command}" if verdict.next_command else ""
                raise pytest.UsageError(
                    f"engine {engine} cannot do {vendor} here: {verdict.reason}{following}"
                )


def encode_cell(cell: Cell) -> list[str]:
    """A cell as xdist can carry it."""
    return [str(cell.engine), str(cell.vendor), cell.kernel]


def decode_cell(raw: list[str]) -> Cell:
    """The inverse of ``encode_cell``."""
    engine, vendor, kernel = raw
    return Cell(EngineName(engine), Vendor(vendor), kernel)


def _unit_only(config: pytest.Config) -> bool:
    """Runs of the unit tests alone leave the last guest run's results in place."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    return bool(paths) and all(UNIT_FOLDER in path.resolve().parts for path in paths)
