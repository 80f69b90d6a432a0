# SPDX-License-Identifier: MIT
"""A bootable CD image for engines without a direct kernel loader (Bochs)."""

from __future__ import annotations

import shutil
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import UsageError
from dunelab.images.builder import WORK, Builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.spec import GuestImage

_SECONDS = 120.0
_FORMAT = "2"


def grub_config(cmdline: str) -> str:
    """The boot menu: one entry, no waiting, text output only."""
    if any(character in cmdline for character in "\n'\"$\\;{}"):
        raise UsageError(f"kernel command line cannot be written into a boot menu: {cmdline!r}")
    return (
        f"set timeout=0\nterminal_output console\nlinux /vmlinuz {cmdline}\ninitrd /initrd\nboot\n"
    )


def boot_iso(cache: Cache, builder: Builder, image: GuestImage, cmdline: str) -> Path:
    """The image and its command line as a CD, from the cache."""
    config = grub_config(cmdline)
    digest = (
        Digest("boot iso")
        .text("format", _FORMAT)
        .text("builder", builder.identity)
        .text("image", image.digest)
        .text("config", config)
        .hex()
    )

    def make(folder: Path) -> None:
        tree = folder / "tree"
        (tree / "boot/grub").mkdir(parents=True)
        shutil.copy(image.vmlinuz, tree / "vmlinuz")
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
