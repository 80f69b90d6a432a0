# SPDX-License-Identifier: MIT
"""QEMU of other Debian releases than the host's, to run the harness on.

Each is a root of its own, made as the builder root is, out of which the emulator runs
on the host: by the root's own dynamic loader, with the root's libraries, modules and
firmware.  So it sees the host's files and sockets, and needs no privilege.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from dunelab.images.builder import open_builder
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.images.recipes import BuilderRecipe
from dunelab.images.resolve import Resolver

PACKAGES = ("qemu-system-x86",)
# Firmware lies in folders of several packages, and QEMU looks where -L says.
_FIRMWARE = ("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu")
_LIBRARIES = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
# Not that of /lib64, which old releases have as an absolute link.
_LOADER = "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_BINARY = "usr/bin/qemu-system-x86_64"
_MODULES = "usr/lib/x86_64-linux-gnu/qemu"


def qemu_of(
    cache: Cache,
    resolver: Resolver,
    suite: str,
    exclude: tuple[str, ...],
    progress: Callable[[str], None],
) -> Path:
    """A program that is the QEMU of a Debian suite, for ``DUNELAB_QEMU``."""
    recipe = BuilderRecipe(suite, PACKAGES, exclude)
    record = resolver.packages(f"qemu-{suite}", suite, PACKAGES)
    progress(f"QEMU {record.packages[0].version} of Debian {suite}")
    root = open_builder(cache, recipe, record, resolver.archive(suite), progress).root
    text = script(root)

    def make(folder: Path) -> None:
        program = folder / Path(_BINARY).name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)

    digest = Digest("qemu script").text("text", text).hex()
    return cache.get_or_make("qemu", digest, make) / Path(_BINARY).name


def script(root: Path) -> str:
    """Starts the QEMU of ``root`` with what belongs to it."""

    def within(path: str) -> str:
        return str(root / path)

    argv = [
        within(_LOADER),
        *("--library-path", ":".join(map(within, _LIBRARIES))),
        within(_BINARY),
        *(word for folder in _FIRMWARE for word in ("-L", within(folder))),
    ]
    return (
        "#!/bin/sh\n"
        f"QEMU_MODULE_DIR={shlex.quote(within(_MODULES))}\n"
        "export QEMU_MODULE_DIR\n"
        f'exec {shlex.join(argv)} "$@"\n'
    )
