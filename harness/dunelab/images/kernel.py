# SPDX-License-Identifier: MIT
"""What is taken out of a kernel's packages: the image, modules, headers."""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from dunelab.errors import InfrastructureError
from dunelab.images.archive import Archive, Package
from dunelab.images.cache import Cache
from dunelab.images.debs import unpack
from dunelab.images.kernels import KernelEntry
from dunelab.images.resolve import Record

_BOOT_KINDS = ("linux-image-", "linux-base-", "linux-binary-", "linux-modules-")
_HEADER_KINDS = ("linux-headers-", "linux-kbuild-")
_FORMAT = "2"


@dataclass(frozen=True)
class Kernel:
    """One kernel: its record, and its unpacked boot and build files."""

    id: str
    release: str
    record: Record
    vmlinuz: Path
    modules: Path
    headers: Path

    @property
    def package_version(self) -> str:
        """The version of the package that holds the kernel."""
        return next((p.version for p in self.record.packages if p.name.startswith(_BOOT_KINDS)), "")

    @property
    def header_packages(self) -> tuple[Package, ...]:
        """What is installed to build modules for it; none for a kernel of the user's own."""
        return tuple(p for p in self.record.packages if p.name.startswith(_HEADER_KINDS))

    @property
    def config(self) -> str:
        """Its configuration, as the build writes it."""
        path = self.headers / "src" / f"linux-headers-{self.release}" / ".config"
        return path.read_text(encoding="utf-8")

    @property
    def gcc_version(self) -> int:
        """The version of the compiler it was built with, as in its configuration: 140200."""
        return gcc_version(self.config)

    def has(self, option: str) -> bool:
        """Whether an option, such as ``DEBUG_KMEMLEAK``, is built in."""
        return f"CONFIG_{option}=y" in self.config.splitlines()

    @property
    def build_mounts(self) -> dict[Path, str]:
        """Where the header trees must appear inside the builder root."""
        mounts = {
            path: f"/usr/src/{path.name}" for path in sorted((self.headers / "src").iterdir())
        }
        for path in sorted((self.headers / "lib").iterdir()):
            mounts[path] = f"/usr/lib/{path.name}"
        return mounts


def open_kernel(
    cache: Cache,
    archive: Archive,
    entry: KernelEntry,
    record: Record,
    progress: Callable[[str], None],
) -> Kernel:
    """The unpacked kernel from the cache, downloaded if it is not there."""
    boot_packages = [p for p in record.packages if p.name.startswith(_BOOT_KINDS)]
    build_packages = [p for p in record.packages if not p.name.startswith(_BOOT_KINDS)]
    log = cache.logs / f"kernel-{entry.id}.log"

    def make_modules(folder: Path) -> None:
        scratch = folder / "scratch"
        for package, deb in archive.fetch(boot_packages).items():
            progress(f"unpacking {package.name}")
            unpack(deb, scratch, log)
        shutil.move(find_vmlinuz(scratch, record.label), folder / "vmlinuz")
        # /lib is a symlink on today's systems; older packages still name it.
        found = [
            path
            for path in (scratch / f"{top}lib/modules/{record.label}" for top in ("", "usr/"))
            if path.is_dir()
        ]
        if not found:
            raise InfrastructureError(f"no modules in the packages of {record.label}", evidence=log)
        shutil.move(found[0], folder / "modules")
        shutil.rmtree(scratch)

    def make_image(folder: Path) -> None:
        # Apart from the 100 MB of modules, so that its checksum is verified at every use.
        shutil.copy(unpacked / "vmlinuz", folder / "vmlinuz")

    def make_headers(folder: Path) -> None:
        progress(f"headers of {record.label}")
        scratch = folder / "scratch"
        for deb in archive.fetch(build_packages).values():
            unpack(deb, scratch, log)
        # The trees refer to each other as /usr/src/... and ../../lib/linux-kbuild-...
        shutil.move(scratch / "usr/src", folder / "src")
        (folder / "lib").mkdir()
        for tools in scratch.glob("usr/lib/linux-kbuild-*"):
            shutil.move(tools, folder / "lib" / tools.name)
        shutil.rmtree(scratch)

    def named(purpose: str) -> str:
        return record.digest(purpose).text("format", _FORMAT).hex()

    unpacked = cache.get_or_make("kernel-modules", named("kernel modules"), make_modules)
    image = cache.get_or_make("kernel", named("kernel image"), make_image)
    headers = cache.get_or_make("headers", named("kernel headers"), make_headers)
    return Kernel(
        id=entry.id,
        release=record.label,
        record=record,
        vmlinuz=image / "vmlinuz",
        modules=unpacked / "modules",
        headers=headers,
    )


def gcc_version(config: str) -> int:
    """``CONFIG_GCC_VERSION`` of a kernel's configuration; 0 if it was not GCC."""
    found = re.search(r"^CONFIG_GCC_VERSION=(\d+)$", config, re.MULTILINE)
    return int(found[1]) if found else 0


def find_vmlinuz(root: Path, release: str) -> Path:
    """The kernel image, wherever this generation of packages puts it."""
    for name in (
        f"boot/vmlinuz-{release}",
        f"usr/lib/modules/{release}/vmlinuz",
        f"usr/lib/modules/{release}/vmlinuz.unsigned",
    ):
        if (root / name).is_file():
            return root / name
    raise InfrastructureError(f"no vmlinuz in the packages of {release}")


# -- kernel modules ------------------------------------------------------------


def module_name(filename: str) -> str:
    """``drivers/net/virtio-net.ko.xz`` is the module ``virtio_net``."""
    name = Path(filename).name
    for suffix in (".xz", ".gz", ".zst", ".ko"):
        name = name.removesuffix(suffix)
    return name.replace("-", "_")


def read_module(path: Path) -> bytes:
    """A module's ELF image, unpacked."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix != ".ko":
        raise InfrastructureError(f"kernel module {path.name} is compressed in an unknown way")
    return data


def modinfo(path: Path) -> dict[str, list[str]]:
    """The ``.modinfo`` section of an uncompressed module file."""
    try:
        with path.open("rb") as stream:
            section = ELFFile(stream).get_section_by_name(".modinfo")
            data = b"" if section is None else section.data()
    except ELFError as error:
        raise InfrastructureError(f"{path} is not an ELF file: {error}", evidence=path) from error
    return parse_modinfo(data)


def parse_modinfo(data: bytes) -> dict[str, list[str]]:
    """``name=value`` strings, each ended by a zero byte."""
    fields: dict[str, list[str]] = {}
    for item in data.split(b"\0"):
        if item:
            name, _, value = item.decode(errors="replace").partition("=")
            fields.setdefault(name, []).append(value)
    return fields


def depends_of(fields: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The modules a module needs, from its modinfo."""
    listed = ",".join(fields.get("depends", []))
    return tuple(name.replace("-", "_") for name in listed.split(",") if name)


def load_order(wanted: Iterable[str], depends: Callable[[str], tuple[str, ...]]) -> list[str]:
    """The wanted modules and all they need, each after what it needs."""
    order: list[str] = []
    path: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        if name in path:
            raise InfrastructureError(f"modules depend on each other: {' -> '.join([*path, name])}")
        path.append(name)
        for needed in depends(name):
            visit(needed)
        path.pop()
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def render_modules_dep(files: Mapping[str, str], depends: Callable[[str], tuple[str, ...]]) -> str:
    """A ``modules.dep`` for the module files of a guest (name to path, as depmod writes it)."""
    lines = []
    for name in sorted(files):
        needed = [other for other in reversed(load_order([name], depends)) if other != name]
        lines.append(f"{files[name]}:" + "".join(f" {files[other]}" for other in needed))
    return "\n".join(lines) + "\n"


def builtin_modules(listing: str) -> frozenset[str]:
    """The names in a ``modules.builtin``."""
    return frozenset(module_name(line) for line in listing.split())


def drivers_of(kernel: Kernel, wanted: Iterable[str]) -> tuple[str, ...]:
    """Those of the wanted modules that a kernel has, loadable or built in."""
    present = {module_name(path.name) for path in kernel.modules.rglob("*.ko*")}
    present |= builtin_modules((kernel.modules / "modules.builtin").read_text("utf-8"))
    return tuple(name for name in wanted if name in present)


@dataclass(frozen=True)
class UnpackedModule:
    """A module as a plain ELF file; ``place`` is where it belongs below the modules' folder."""

    name: str
    path: Path
    place: str
    depends: tuple[str, ...]


def unpack_modules(
    kernel: Kernel, wanted: Iterable[str], folder: Path, *, others: Iterable[Path] = ()
) -> dict[str, UnpackedModule]:
    """The wanted modules and all they need, by name, each after what it needs.

    ``others`` are wanted too, and are not among the kernel's own.  What is
    built into the kernel is left out.
    """
    available = {module_name(path.name): path for path in kernel.modules.rglob("*.ko*")}
    own = {module_name(path.name): path for path in others}
    builtin = builtin_modules((kernel.modules / "modules.builtin").read_text("utf-8"))
    unpacked: dict[str, UnpackedModule] = {}

    def depends(name: str) -> tuple[str, ...]:
        """Unpack a module when first met, and say what it needs."""
        if name not in unpacked:
            source = own.get(name) or available.get(name)
            if source is None:
                raise InfrastructureError(
                    f"kernel {kernel.release} has no module {name}, neither loadable nor built in"
                )
            path = folder / f"{name}.ko"
            path.write_bytes(read_module(source))
            place = source.name
            if name not in own:
                place = source.relative_to(kernel.modules).as_posix().split(".ko")[0] + ".ko"
            needed = tuple(name for name in depends_of(modinfo(path)) if name not in builtin)
            unpacked[name] = UnpackedModule(name, path, place, needed)
        return unpacked[name].depends

    names = [name for name in wanted if name not in builtin]
    return {name: unpacked[name] for name in load_order([*names, *own], depends)}
