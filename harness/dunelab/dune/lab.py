# SPDX-License-Identifier: MIT
"""Guests with dune.ko: images, engines and machines put together for the tests.

What the pytest plugin and the commands share.  Everything is made when first
asked for; making a ``DuneLab`` costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.dune import guest
from dunelab.engines import select
from dunelab.engines.base import Engine
from dunelab.errors import DunelabError
from dunelab.images.kernels import Matrix
from dunelab.images.module import ModuleBuild, read_build_id
from dunelab.images.own import is_own
from dunelab.images.store import Store
from dunelab.machine import states, workdir
from dunelab.machine.machine import Machine
from dunelab.machine.stale import ran_stale_code
from dunelab.machine.watch import GuestCrashed
from dunelab.pytest_support.header import Variant
from dunelab.pytest_support.lab import Booted, Builds, Verdict
from dunelab.results.splat import find_splats
from dunelab.spec import Cell, EngineName, MachineSpec, Vendor

LIBRARY = "libdune.so"
# From the engine's start to the first command.  Generous, because a laptop's
# other work shares the cores; a guest that is dead is noticed long before.
BOOT_SECONDS = {EngineName.KVM: 60.0, EngineName.TCG: 180.0, EngineName.BOCHS: 420.0}


class DuneLab:
    """The ``Lab`` of this repository."""

    def __init__(
        self,
        root: Path,
        progress: Callable[[str], None] = lambda text: None,
        boot_seconds: Mapping[EngineName, float] = BOOT_SECONDS,
    ) -> None:
        self._root = root
        self._progress = progress
        self._boot_seconds = boot_seconds

    @cached_property
    def store(self) -> Store:
        """The image store of this tree."""
        return Store.open(self._progress, start=self._root)

    @cached_property
    def engines(self) -> select.Engines:
        """All engines, by name."""
        return select.all_engines(self.store)

    @cached_property
    def _matrix(self) -> Matrix:
        return Matrix.read(self._root / "images" / "kernels.toml")

    def kernels(self) -> tuple[str, ...]:
        """The ids of images/kernels.toml."""
        return tuple(entry.id for entry in self._matrix.kernels)

    def kernel_id(self, word: str) -> str:
        """The id that ``--kernel`` means, which may be a path."""
        return self.store.kernel_id(word)

    def is_own_kernel(self, kernel: str) -> bool:
        """Whether an id is that of a kernel in no list: the user's own, or the debug kernel."""
        return is_own(kernel) or kernel == self.store.debug_recipe.id

    def default_kernel(self) -> str:
        """The kernel used when none is named."""
        return self._matrix.default

    def pick(self, vendor: Vendor) -> EngineName:
        """What ``auto`` means for a vendor."""
        return select.pick(self.engines, vendor)

    def host_vendors(self) -> tuple[Vendor, ...]:
        """What KVM nests here; both when it nests neither, for the error to come."""
        kvm = self.engines[EngineName.KVM]
        return tuple(vendor for vendor in Vendor if kvm.check(vendor).ok) or tuple(Vendor)

    def check(self, engine: EngineName, vendor: Vendor) -> Verdict:
        """Whether an engine works here for a vendor."""
        found = self.engines[engine].check(vendor)
        return Verdict(found.ok, found.reason, found.next_command)

    def engine(self, cell: Cell) -> Engine:
        """The cell's engine, or EngineUnavailable with what to type."""
        return select.choose(self.engines, cell.engine, cell.vendor)

    def spec(
        self, cell: Cell, variant: Variant, folder: Path, *, module: bool = True
    ) -> MachineSpec:
        """The machine a cell and a variant mean."""
        image = self.store.guest_image(cell.kernel, with_module=module, kind=variant.image)
        return MachineSpec(
            cell=cell,
            image=image,
            workdir=folder,
            cpus=variant.cpus,
            memory_mib=image.memory_mib,
            cpu_model=variant.cpu_model,
            icount=variant.icount,
            append=variant.append,
        )

    def boot(self, cell: Cell, variant: Variant, *, fresh: bool = False) -> Booted:
        """A running guest with dune.ko loaded."""
        machine, booted = self._start(cell, variant, fresh)
        try:
            guest.load_module(machine)
        except BaseException:
            machine.kill()
            raise
        return booted

    def boot_bare(self, cell: Cell, variant: Variant, *, fresh: bool = False) -> Booted:
        """A running guest that has dune.ko and has not loaded it."""
        return self._start(cell, variant, fresh)[1]

    def _start(self, cell: Cell, variant: Variant, fresh: bool) -> tuple[Machine, Booted]:
        try:
            return self._start_once(cell, variant, fresh)
        except GuestCrashed as death:
            if not ran_stale_code(cell.engine, variant.cpus, death.splats):
                raise
            why = f"the guest died of stale code while it booted, evidence: {death.evidence}"
        self._progress(f"{cell}: {why} (docs/engines.md); it is started once more")
        machine, booted = self._start_once(cell, variant, fresh)
        return machine, replace(booted, again=why)

    def _start_once(self, cell: Cell, variant: Variant, fresh: bool) -> tuple[Machine, Booted]:
        engine = self.engine(cell)
        builds = self.builds(cell.kernel)
        folder = workdir.create(str(cell))
        try:
            spec = self.spec(cell, variant, folder)
            deadline = Deadline.after(self._boot_seconds[cell.engine], f"guest {cell}")
            if fresh:
                machine = Machine.boot(engine, spec, deadline, find_splats, self._progress)
            else:
                machine = states.boot_or_restore(
                    self.store.cache, engine, spec, deadline, find_splats, self._progress
                )
        except DunelabError:
            workdir.keep(folder)
            raise
        host, port = machine.instance.ssh_address
        booted = Booted(
            machine=machine,
            builds=builds,
            engine_log=machine.instance.engine_log,
            command_line=engine.command_line(spec),
            workdir=folder,
            ssh_command=(
                f"ssh -i {spec.image.ssh_key} -p {port} -o StrictHostKeyChecking=no "
                f"-o UserKnownHostsFile=/dev/null {spec.image.ssh_user}@{host}"
            ),
            dispose=lambda: workdir.remove(folder),
            last_check=self._last_check(cell.kernel, machine),
        )
        return machine, booted

    def _last_check(self, kernel: str, machine: Machine) -> Callable[[], str]:
        if not self.store.kernel(kernel).has("DEBUG_KMEMLEAK"):
            return lambda: ""
        return lambda: guest.last_check(machine)

    def builds(self, kernel: str) -> Builds:
        """What dune.ko and libdune are for a kernel."""
        module = self.store.module(kernel)
        library = self.store.programs().library / LIBRARY
        return Builds(
            release=module.release,
            module_build_id=module.build_id,
            libdune_build_id=read_build_id(library),
            symbols={module.name: module.path_debug},
            kernel_package=self.store.kernel(kernel).package_version,
            compiler=self.store.builder.compiler,
        )

    def module(self, kernel: str, source: Path) -> ModuleBuild:
        """Another module, built like dune.ko."""
        return self.store.module(kernel, source)

    def program(self, name: str) -> Path:
        """A compiled guest program: ``behaviour/enter``."""
        return self.store.programs().program(name)

    def libraries(self) -> tuple[Path, ...]:
        """What programs need one folder above them, by the name they were linked with."""
        return tuple(sorted(self.store.programs().programs.glob(f"{LIBRARY}*")))
