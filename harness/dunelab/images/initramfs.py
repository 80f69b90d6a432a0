# SPDX-License-Identifier: MIT
"""The guest's initramfs: archives common to all kernels, and one per kernel.

The kernel unpacks concatenated archives one after the other, so the large
common part (busybox, SSH server, C library) is made once, and a rebuilt module
or application costs only its own small part.  For the full guest the kernel's
part also has the drivers of its disk, and says which disk it is to be.

Nothing is compressed: an emulated CPU needs about a second longer to unpack
gzip than to read the 5 MB that it saves.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import InfrastructureError
from dunelab.images import kernel as kernels
from dunelab.images.archive import Archive
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.cpio import Initramfs
from dunelab.images.debs import unpack
from dunelab.images.digest import Digest, source_files
from dunelab.images.disk import STAMP
from dunelab.images.kernel import Kernel
from dunelab.images.keys import Keys
from dunelab.images.module import ModuleBuild
from dunelab.images.recipes import GuestRecipe
from dunelab.images.resolve import Record

_FORMAT = "7"
_APPLETS_SECONDS = 60.0

_TEXT_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "etc/shells": "/bin/sh\n",
    "etc/hosts": "127.0.0.1 localhost dune\n",
    "etc/hostname": "dune\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
_EMPTY_FOLDERS = ("proc", "sys", "dev", "run", "mnt", "var", "lib/modules")


def base_archive(
    cache: Cache,
    builder: Builder,
    archive: Archive,
    recipe: GuestRecipe,
    record: Record,
    keys: Keys,
    scripts: Path,
) -> Path:
    """The part all kernels share, as a file in the cache; ``scripts`` is images/guest."""
    digest = (
        record.digest("guest base")
        .text("format", _FORMAT)
        .texts("files", recipe.files)
        .tree("scripts", scripts)
        .file("client", keys.client_public)
        .file("host", keys.host)
        .hex()
    )

    def make(folder: Path) -> None:
        log = cache.logs / f"guest-base-{digest[:12]}.log"
        tree = folder / "tree"
        for deb in archive.fetch(record.packages).values():
            unpack(deb, tree, log)
        applets = _applets(builder, tree, log)
        image = _base(tree, recipe.files, applets, keys, scripts)
        (folder / "base.cpio").write_bytes(image.pack())
        shutil.rmtree(tree)

    return cache.get_or_make("guest-base", digest, make) / "base.cpio"


def _applets(builder: Builder, tree: Path, log: Path) -> list[str]:
    """Where this busybox wants its commands, such as ``sbin/modprobe``."""
    builder.run(
        ["sh", "-c", f"{WORK}/tree/usr/bin/busybox --list-full >{WORK}/tree/applets"],
        binds={tree: f"{WORK}/tree"},
        log=log,
        deadline=Deadline.after(_APPLETS_SECONDS, "busybox --list-full"),
        what="listing busybox's commands",
    )
    return (tree / "applets").read_text(encoding="utf-8").split()


def _base(
    tree: Path, patterns: Sequence[str], applets: Sequence[str], keys: Keys, scripts: Path
) -> Initramfs:
    image = Initramfs()
    for name in ("bin", "sbin", "lib", "lib64"):
        image.directory(f"usr/{name}")
        image.symlink(name, f"usr/{name}")
    for folder in _EMPTY_FOLDERS:
        # /lib is a symlink to /usr/lib in this tree.
        image.directory(f"usr/{folder}" if folder.startswith("lib/") else folder)
    image.directory("tmp", 0o1777)
    image.character_device("dev/console", 5, 1)
    for pattern in patterns:
        matches = sorted(tree.glob(pattern))
        if not matches:
            raise InfrastructureError(f"guest.toml: '{pattern}' matches no file of the packages")
        for path in matches:
            add_file(image, tree, path)
    for applet in applets:
        name = applet if applet.startswith("usr/") else f"usr/{applet}"
        if "/" in applet and name not in image:
            image.symlink(name, "/usr/bin/busybox")
    for name, text in _TEXT_FILES.items():
        image.file(name, text.encode())
    image.directory("root", 0o700)
    image.directory("root/.ssh", 0o700)
    image.file("root/.ssh/authorized_keys", keys.client_public.read_bytes(), 0o600)
    image.file("etc/dropbear/host_key", keys.host.read_bytes(), 0o600)
    for script in source_files(scripts):
        # The kernel starts /init; it hands over to the others.
        name = "init" if script.name == "init" else f"etc/dunelab/{script.name}"
        image.file(name, script.read_bytes(), 0o755)
    return image


def add_file(image: Initramfs, tree: Path, path: Path) -> None:
    """Copy one file or symlink of an unpacked tree into the image."""
    name = path.relative_to(tree).as_posix()
    if path.is_symlink():
        image.symlink(name, path.readlink().as_posix())
    else:
        image.file(name, path.read_bytes(), path.stat().st_mode & 0o777)


def kernel_archive(
    cache: Cache,
    recipe: GuestRecipe,
    kernel: Kernel,
    module: ModuleBuild | None,
    disk: str | None = None,
) -> Path:
    """The part of one kernel: its drivers and the module under test.

    ``disk`` is the stamp of the full guest's disk.
    """
    boot = (
        *recipe.boot_modules,
        *kernels.drivers_of(kernel, recipe.network_modules),
        *(() if disk is None else recipe.disk_modules),
    )
    digest = (
        kernel.record.digest("guest modules")
        .text("format", _FORMAT)
        .texts("boot", boot)
        .texts("other", recipe.modules)
        .text("disk", disk or "")
    )
    if module is not None:
        digest.file(module.name, module.path_stripped)

    def make(folder: Path) -> None:
        image = _modules(folder / "scratch", boot, recipe.modules, kernel, module)
        if disk is not None:
            image.file(STAMP, f"{disk}\n".encode())
            _depmod_inputs(image, kernel)
        (folder / "modules.cpio").write_bytes(image.pack())
        shutil.rmtree(folder / "scratch")

    return cache.get_or_make("guest-modules", digest.hex(), make) / "modules.cpio"


def apps_archive(cache: Cache, apps: Sequence[Path]) -> Path:
    """The part with the applications built on libdune."""
    digest = Digest("guest apps").text("format", _FORMAT)
    for app in apps:
        digest.file(app.name, app)

    def make(folder: Path) -> None:
        image = Initramfs()
        for app in apps:
            image.file(f"usr/bin/{app.name}", app.read_bytes(), 0o755)
        (folder / "apps.cpio").write_bytes(image.pack())

    return cache.get_or_make("guest-apps", digest.hex(), make) / "apps.cpio"


def _modules(
    scratch: Path,
    at_boot: Sequence[str],
    others: Sequence[str],
    kernel: Kernel,
    module: ModuleBuild | None,
) -> Initramfs:
    scratch.mkdir()
    modules = kernels.unpack_modules(
        kernel,
        [*at_boot, *others],
        scratch,
        others=[] if module is None else [module.path_stripped],
    )

    def depends(name: str) -> tuple[str, ...]:
        return modules[name].depends

    base = f"usr/lib/modules/{kernel.release}"
    image = Initramfs()
    image.directory(base)
    places = {name: unpacked.place for name, unpacked in modules.items()}
    for name, place in places.items():
        image.file(f"{base}/{place}", modules[name].path.read_bytes())
    image.file(f"{base}/modules.dep", kernels.render_modules_dep(places, depends).encode())
    loadable = [name for name in at_boot if name in modules]
    boot = kernels.load_order(loadable, depends)
    listing = "".join(f"/{base}/{places[name]}\n" for name in boot)
    image.file("etc/dunelab/modules", listing.encode())
    return image


def _depmod_inputs(image: Initramfs, kernel: Kernel) -> None:
    """What kmod's depmod, which the full guest has, reads besides the modules."""
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        data = (kernel.modules / name).read_bytes()
        image.file(f"usr/lib/modules/{kernel.release}/{name}", data)


def initrd(cache: Cache, parts: Sequence[Path], progress: Callable[[str], None]) -> Path:
    """The parts as one file."""
    digest = Digest("initrd")
    for part in parts:
        digest.file("part", part)

    def make(folder: Path) -> None:
        progress("guest image")
        with (folder / "initrd").open("wb") as out:
            for part in parts:
                data = part.read_bytes()
                # The kernel looks for the next archive on a 4-byte boundary.
                out.write(data + b"\0" * (-len(data) % 4))

    return cache.get_or_make("initrd", digest.hex(), make) / "initrd"
