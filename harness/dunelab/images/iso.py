# SPDX-License-Identifier: MIT
"""A bootable CD image for engines without a direct kernel loader (Bochs)."""

from __future__ import annotations

import shutil
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, UsageError
from dunelab.images import bzimage
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.spec import GuestImage

_SECONDS = 120.0
_FORMAT = "3"
_COMPILER = "gcc-14"


def grub_config(cmdline: str) -> str:
    """The boot menu: one entry, no waiting, text output only."""
    if any(character in cmdline for character in "\n'\"$\\;{}"):
        raise UsageError(f"kernel command line cannot be written into a boot menu: {cmdline!r}")
    return (
        f"set timeout=0\nterminal_output console\nlinux /vmlinuz {cmdline}\ninitrd /initrd\nboot\n"
    )


def plain_kernel(
    cache: Cache, builder: Builder, vmlinuz: Path, entry_code: Path, *, kaslr: bool
) -> Path:
    """The kernel without its compression, where unpacking it takes an emulated CPU long."""
    parts = bzimage.take_apart(vmlinuz.read_bytes())
    unpacker = parts.unpacker
    if unpacker is None:
        return vmlinuz
    digest = (
        Digest("plain kernel")
        .text("format", _FORMAT)
        .text("builder", builder.identity)
        .file("vmlinuz", vmlinuz)
        .file("entry code", entry_code)
        .text("kaslr", str(kaslr))
        .hex()
    )
    log = cache.logs / f"plain-kernel-{digest[:12]}.log"

    def make(folder: Path) -> None:
        log.unlink(missing_ok=True)
        deadline = Deadline.after(_SECONDS, "plain kernel")
        scratch = folder / "scratch"
        scratch.mkdir()

        def in_root(*argv: str, what: str) -> None:
            builder.run(
                argv, binds={scratch: WORK}, cwd=WORK, log=log, deadline=deadline, what=what
            )

        (scratch / "payload").write_bytes(parts.payload)
        in_root("sh", "-c", f"{unpacker} -dc <payload >vmlinux", what="unpacking the kernel")
        vmlinux = (scratch / "vmlinux").read_bytes()
        if len(vmlinux) != parts.unpacked_size:
            raise BuildFailed(
                f"the kernel unpacks to {len(vmlinux)} bytes and not {parts.unpacked_size}",
                evidence=log,
            )
        kernel = bzimage.lay_out(vmlinux)
        shutil.copy(entry_code, scratch / "entry.S")
        in_root(
            *(_COMPILER, "-m32", "-nostdlib", "-static", "-Wa,--fatal-warnings", "-o", "entry"),
            *(f"-D{name}={value:#x}" for name, value in kernel.symbols.items()),
            # No headers around it: the first byte of the file is the first instruction.
            *("-Wl,--oformat=binary,--build-id=none,-Ttext=0", "entry.S"),
            what=f"assembling {entry_code.name}",
        )
        code = (scratch / "entry").read_bytes()
        image = bzimage.put_together(parts.setup, kernel, code, kaslr=kaslr)
        (folder / "vmlinuz").write_bytes(image)
        shutil.rmtree(scratch)

    return cache.get_or_make("plain-kernel", digest, make) / "vmlinuz"


def boot_iso(
    cache: Cache, builder: Builder, image: GuestImage, cmdline: str, entry_code: Path
) -> Path:
    """The image and its command line as a CD, from the cache.

    ``entry_code`` is images/plain_boot.S, for a kernel that needs it.
    """
    config = grub_config(cmdline)
    digest = (
        Digest("boot iso")
        .text("format", _FORMAT)
        .text("builder", builder.identity)
        .text("image", image.digest)
        .file("entry code", entry_code)
        .text("config", config)
        .hex()
    )

    def make(folder: Path) -> None:
        tree = folder / "tree"
        (tree / "boot/grub").mkdir(parents=True)
        kaslr = "nokaslr" not in cmdline.split()
        kernel = plain_kernel(cache, builder, image.vmlinuz, entry_code, kaslr=kaslr)
        shutil.copy(kernel, tree / "vmlinuz")
        shutil.copy(image.initrd, tree / "initrd")
        (tree / "boot/grub/grub.cfg").write_text(config, encoding="utf-8")
        builder.run(
            [
                *("grub-mkrescue", "-o", f"{WORK}/out/boot.iso", "--compress=xz"),
                # Everything but what a BIOS boot from CD needs is left out.
                *(
                    "--install-modules=biosdisk iso9660 linux normal configfile terminal",
                    "--fonts=",
                ),
                *("--locales=", "--themes=", f"{WORK}/out/tree"),
            ],
            binds={folder: f"{WORK}/out"},
            log=cache.logs / f"iso-{digest[:12]}.log",
            deadline=Deadline.after(_SECONDS, "boot ISO"),
            what="making the boot ISO",
        )
        shutil.rmtree(tree)

    return cache.get_or_make("iso", digest, make) / "boot.iso"
