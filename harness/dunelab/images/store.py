# SPDX-License-Identifier: MIT
"""The one door to everything ``dunelab.images`` can make.

Each method returns the finished thing, from the cache where it is there.
Asking twice is cheap; asking from several processes at once is safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from dunelab.errors import UsageError
from dunelab.images import initramfs, own
from dunelab.images.archive import Archive
from dunelab.images.bochs import BochsBuild, open_bochs
from dunelab.images.builder import Builder, open_builder
from dunelab.images.cache import Cache
from dunelab.images.debug_kernel import debug_kernel
from dunelab.images.digest import Digest
from dunelab.images.disk import RootDisk, root_disk
from dunelab.images.exports import drift, imports
from dunelab.images.iso import boot_iso
from dunelab.images.kernel import Kernel, drivers_of, open_kernel
from dunelab.images.kernels import KernelEntry, Matrix
from dunelab.images.keys import Keys, open_keys
from dunelab.images.lost import Check, exports_of, neighbours, newest_image
from dunelab.images.module import ModuleBuild, build_module
from dunelab.images.packaging import DebianPackages, debian_packages
from dunelab.images.programs import ProgramSet, build_programs
from dunelab.images.qemu_roots import qemu_of
from dunelab.images.recipes import (
    BochsRecipe,
    BuilderRecipe,
    DebugKernelRecipe,
    FullRecipe,
    GuestRecipe,
    SuiteRecipe,
)
from dunelab.images.resolve import Record, Resolver
from dunelab.images.sources import Source, SourceRecipe
from dunelab.images.suites import SuiteBuild
from dunelab.images.updates import Survey, survey
from dunelab.spec import GuestImage, ImageKind

Progress = Callable[[str], None]

SSH_USER = "root"
MATRIX_FILE = Path("images/kernels.toml")
_MODULE_SOURCE = Path("src/kmod")
# What the guests have in their /usr/bin.
APPS = ("dune-run", "dune-strace", "dune-sandbox")
# The suites whose programs are compiled here, by the names of their recipes.
COMPILED_SUITES = ("gnulib", "kselftest", "libuv", "posix")
# The names that its packages are recorded under.
_DEBUG_KERNEL = "debug-kernel"
_DEBUG_BUILDER = "debug-kernel-builder"


def silent(_: str) -> None:
    """Progress nobody watches."""


def find_repo_root(start: Path | None = None) -> Path:
    """The folder with images/kernels.toml.

    Upwards from ``start``; without one upwards from the current folder, else from this
    file, else the copy that an installed package has (setup.py makes it).
    """
    package = Path(__file__).resolve().parents[1]
    for origin in [start] if start else [Path.cwd(), package, package / "_tree"]:
        for folder in (origin, *origin.parents):
            if (folder / MATRIX_FILE).is_file():
                return folder
    raise UsageError(
        "images/kernels.toml is nowhere above the current folder",
        next_command="cd into a clone of the repository and run again",
    )


class Store:
    """Makes and finds images for one source tree."""

    def __init__(
        self,
        cache: Cache,
        repo_root: Path,
        progress: Progress = silent,
        *,
        module_source: Path | None = None,
        refresh: bool = False,
    ) -> None:
        self.cache = cache
        self.repo_root = repo_root
        self.module_source = module_source or repo_root / _MODULE_SOURCE
        self._progress = progress
        self._resolver = Resolver(cache, progress, refresh=refresh)
        self._kernels: dict[str, Kernel] = {}

    @classmethod
    def open(
        cls,
        progress: Progress = silent,
        *,
        start: Path | None = None,
        cache_root: Path | None = None,
        module_source: Path | None = None,
        refresh: bool = False,
    ) -> Store:
        """The store of the repository around ``start`` (by default the current folder)."""
        return cls(
            Cache(cache_root),
            find_repo_root(start),
            progress,
            module_source=module_source,
            refresh=refresh,
        )

    # -- recipes ---------------------------------------------------------------

    @cached_property
    def matrix(self) -> Matrix:
        """The kernels of images/kernels.toml."""
        return Matrix.read(self.repo_root / MATRIX_FILE)

    @cached_property
    def _guest_recipe(self) -> GuestRecipe:
        return GuestRecipe.read(self.repo_root / "images/guest.toml")

    @cached_property
    def _full_recipe(self) -> FullRecipe:
        return FullRecipe.read(self.repo_root / "images/full.toml")

    def suite_recipe(self, name: str) -> SuiteRecipe:
        """Which of a suite's tests are built."""
        return SuiteRecipe.read(self.repo_root / f"images/{name}.toml")

    @cached_property
    def _bochs_recipe(self) -> BochsRecipe:
        return BochsRecipe.read(self.repo_root / "images/bochs.toml")

    @cached_property
    def _builder_recipe(self) -> BuilderRecipe:
        return BuilderRecipe.read(self.repo_root / "images/builder.toml")

    @cached_property
    def _packager_recipe(self) -> BuilderRecipe:
        return BuilderRecipe.read(self.repo_root / "images/packager.toml")

    @cached_property
    def debug_recipe(self) -> DebugKernelRecipe:
        """The kernel that is built from source, when somebody asks for it."""
        return DebugKernelRecipe.read(self.repo_root / "images/debug-kernel.toml")

    # -- parts -------------------------------------------------------------------

    @cached_property
    def builder(self) -> Builder:
        """The builder root."""
        return self._root("builder", self._builder_recipe)

    @cached_property
    def packager(self) -> Builder:
        """The root that Debian packages are made in."""
        return self._root("packager", self._packager_recipe)

    def _root(self, key: str, recipe: BuilderRecipe) -> Builder:
        record = self._resolver.packages(key, recipe.suite, recipe.packages)
        return open_builder(self.cache, recipe, record, self._archive(recipe.suite), self._progress)

    @cached_property
    def keys(self) -> Keys:
        """The SSH keys of this cache's guests."""
        return open_keys(self.cache)

    def _archive(self, suite: str) -> Archive:
        return self._resolver.archive(suite)

    def record(self, entry: KernelEntry) -> Record:
        """Release and packages of a kernel; looks them up when they are not on record."""
        return self._resolver.kernel(entry)

    def recorded(self, entry: KernelEntry) -> Record | None:
        """The same, but only what is on record."""
        return self._resolver.recorded_kernel(entry)

    def kernel_id(self, word: str) -> str:
        """What ``--kernel`` means: an id, or the path of a kernel of the user's own."""
        return own.adopt(self.cache, Path(word)) if own.is_path(word) else word

    def entry(self, word: str | None = None) -> KernelEntry:
        """The entry of an id or a path; without any, the default."""
        kernel_id = None if word is None else self.kernel_id(word)
        if kernel_id is not None and own.is_own(kernel_id):
            return own.own_entry(self.cache, kernel_id)
        debug = self.debug_recipe
        if kernel_id == debug.id:
            return KernelEntry(
                debug.id, debug.suite, "debug", debug.series, None, memory_mib=debug.memory_mib
            )
        return self.matrix.get(kernel_id)

    def kernel(self, kernel_id: str | None = None) -> Kernel:
        """A kernel's boot files and headers."""
        entry = self.entry(kernel_id)
        if entry.id not in self._kernels:
            self._kernels[entry.id] = self._open_kernel(entry)
        return self._kernels[entry.id]

    def _open_kernel(self, entry: KernelEntry) -> Kernel:
        if own.is_own(entry.id):
            return own.open_own(self.cache, entry.id)
        if entry.id == self.debug_recipe.id:
            return own.open_at(self.cache, entry.id, self._debug_kernel())
        archive = self._archive(entry.suite)
        return open_kernel(self.cache, archive, entry, self.record(entry), self._progress)

    def header_packages(self, kernel_id: str | None = None) -> list[Path]:
        """The Debian packages that a user installs to build modules for a kernel."""
        kernel = self.kernel(kernel_id)
        suite = self.entry(kernel.id).suite
        return list(self._archive(suite).fetch(kernel.header_packages).values())

    def _debug_kernel(self) -> Path:
        recipe = self.debug_recipe
        source = self._resolver.packages(_DEBUG_KERNEL, recipe.suite, [recipe.package])
        return debug_kernel(
            self.cache,
            lambda: self._root(_DEBUG_BUILDER, recipe.builder),
            self._archive(recipe.suite),
            recipe,
            source,
            self._progress,
        )

    # -- products ----------------------------------------------------------------

    def module(self, kernel_id: str | None = None, source: Path | None = None) -> ModuleBuild:
        """The module under test (or another source folder) built for a kernel."""
        return self.module_for(self.kernel(kernel_id), source)

    def module_for(self, kernel: Kernel, source: Path | None = None) -> ModuleBuild:
        """The same for a kernel that is at hand; threads may build at once once ``builder`` is."""
        folder = source or self.module_source
        return build_module(self.cache, self.builder, kernel, folder, self._progress)

    def programs(self) -> ProgramSet:
        """libdune, its applications and the guest programs."""
        sources = [self._source(recipe) for recipe in self._source_recipes]
        return build_programs(self.cache, self.builder, self.repo_root, sources, self._progress)

    @cached_property
    def _source_recipes(self) -> tuple[SourceRecipe, ...]:
        return SourceRecipe.read_all(self.repo_root / "images/sources.toml")

    def _source(self, recipe: SourceRecipe) -> Source:
        key, suite = f"{recipe.name}-source", recipe.suite
        if recipe.packages:
            record = self._resolver.packages(key, suite, recipe.packages)
        else:
            record = self._resolver.source(key, suite, recipe.source, recipe.upstream)
        return Source(recipe, record, self._archive(suite))

    def debian_packages(self) -> DebianPackages:
        """The module's source for DKMS, the library and dune-run as Debian packages."""
        return debian_packages(self.cache, self.packager, self.repo_root, self._progress)

    def guest_image(
        self,
        kernel_id: str | None = None,
        *,
        with_module: bool = True,
        kind: ImageKind = ImageKind.SMALL,
    ) -> GuestImage:
        """What boots: kernel and initramfs with the module under test and dune-run inside.

        The full kind is the same initramfs with the drivers of a disk, and the disk.
        """
        kernel = self.kernel(kernel_id)
        entry = self.entry(kernel.id)
        module = self.module(kernel.id) if with_module else None
        disk = self.root_disk() if kind is ImageKind.FULL else None
        stamp = disk.stamp if disk else None
        base = self._guest_base()
        parts = [
            base,
            initramfs.kernel_archive(self.cache, self._guest_recipe, kernel, module, stamp),
        ]
        if with_module:
            apps = [self.programs().app(name) for name in APPS]
            parts.append(initramfs.apps_archive(self.cache, apps))
        initrd = initramfs.initrd(self.cache, parts, self._progress)
        digest = Digest("guest image").file("vmlinuz", kernel.vmlinuz).file("initrd", initrd)
        if disk is not None:
            digest.text("disk", disk.identity)
        return GuestImage(
            kernel=kernel.id,
            release=kernel.release,
            vmlinuz=kernel.vmlinuz,
            initrd=initrd,
            iso=None,
            ssh_user=SSH_USER,
            ssh_key=self.keys.client,
            digest=digest.hex(),
            kind=kind,
            disk=disk.path if disk else None,
            drivers=drivers_of(kernel, self._guest_recipe.network_modules),
            isolates_cpus=kernel.has("CPU_ISOLATION"),
            tcg_cpu=entry.tcg_cpu,
            append_on=entry.append_on,
            extra_mib=entry.memory_mib,
        )

    def root_disk(self) -> RootDisk:
        """The Debian root of the full guest."""
        recipe = self._full_recipe
        record = self._resolver.packages("full", recipe.suite, recipe.packages)
        return root_disk(
            self.cache,
            lambda: self.builder,
            self._archive(recipe.suite),
            recipe,
            record,
            self._progress,
        )

    def _guest_base(self) -> Path:
        recipe = self._guest_recipe
        record = self._resolver.packages("guest", recipe.suite, recipe.packages)
        return initramfs.base_archive(
            self.cache,
            self.builder,
            self._archive(recipe.suite),
            recipe,
            record,
            self.keys,
            self.repo_root / "images/guest",
        )

    def iso(self, image: GuestImage, cmdline: str) -> Path:
        """A guest image and a kernel command line as a bootable CD."""
        entry_code = self.repo_root / "images/plain_boot.S"
        return boot_iso(self.cache, self.builder, image, cmdline, entry_code)

    def suite_programs(self, name: str) -> Path:
        """An archive of the programs of one of ``COMPILED_SUITES``."""
        recipe = self.suite_recipe(name)
        archive = self._archive(recipe.suite)
        build = SuiteBuild(self.cache, self.builder, archive, recipe, self._suite_record(recipe))
        return build.programs(self._progress)

    def _suite_record(self, recipe: SuiteRecipe) -> Record:
        if recipe.packages:
            return self._resolver.packages(recipe.name, recipe.suite, recipe.packages)
        name, upstream = recipe.source, recipe.upstream
        return self._resolver.source(f"{recipe.name}-source", recipe.suite, name, upstream)

    def bochs(self) -> BochsBuild:
        """The emulator: the own build, or the packaged one with the reason."""
        recipe = self._bochs_recipe
        source = self._resolver.source("bochs-source", recipe.suite, recipe.source, recipe.upstream)
        share = self._resolver.packages("bochs-share", recipe.suite, recipe.packages)
        return open_bochs(
            self.cache,
            lambda: self.builder,
            self._archive(recipe.suite),
            recipe,
            source,
            share,
            self._progress,
        )

    def qemu(self, suite: str) -> Path:
        """The QEMU of a Debian suite, as a program that runs on this host."""
        exclude = self._builder_recipe.exclude
        return qemu_of(self.cache, self._resolver, suite, exclude, self._progress)

    def check_lost(self) -> Iterator[Check]:
        """What the module would miss on the kernels that nothing can be built for."""
        wanted: dict[str, tuple[str, ...]] = {}
        for series in (name for group in self.matrix.lost for name in group.series):
            near = neighbours(self.matrix.kernels, series)
            # Backports are where a series was that is in no release.
            archive = self._archive(near[-1].suite)
            image = newest_image(archive, archive.control, series)
            self._progress(f"image of {image.release}")
            given = exports_of(self.cache, archive, image)
            for entry in near:
                if entry.id not in wanted:
                    wanted[entry.id] = imports(self.module(entry.id).path_stripped.read_bytes())
                yield Check(series, image.release, entry.id, drift(wanted[entry.id], given))

    def survey(self) -> Survey:
        """What the archive offers that is not on record; changes nothing."""
        return survey(self.matrix.kernels, self.recorded, self._archive)

    def refresh(self) -> None:
        """Look every recipe up again (the store must be opened with ``refresh``)."""
        for entry in self.matrix.kernels:
            self._progress(f"kernel {entry.id}")
            self._resolver.kernel(entry)
        for key, recipe in (
            ("builder", self._builder_recipe),
            ("packager", self._packager_recipe),
            ("guest", self._guest_recipe),
            ("full", self._full_recipe),
            ("bochs-share", self._bochs_recipe),
            (_DEBUG_BUILDER, self.debug_recipe.builder),
        ):
            self._resolver.packages(key, recipe.suite, recipe.packages)
        debug = self.debug_recipe
        self._resolver.packages(_DEBUG_KERNEL, debug.suite, [debug.package])
        bochs = self._bochs_recipe
        self._resolver.source("bochs-source", bochs.suite, bochs.source, bochs.upstream)
        for name in COMPILED_SUITES:
            self._suite_record(self.suite_recipe(name))
        for source in self._source_recipes:
            self._source(source)
