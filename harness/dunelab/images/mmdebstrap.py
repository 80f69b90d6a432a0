# SPDX-License-Identifier: MIT
"""The command that makes a Debian root: for the builder and for the full guest.

mmdebstrap resolves dependencies and runs the packages' own scripts; an
ordinary user needs user namespaces with a range of ids (``/etc/subuid``).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from dunelab.images.archive import KEYRING
from dunelab.images.process import missing_tool

TOOL = "mmdebstrap"


def require() -> str:
    """The path of mmdebstrap, or the error that says how to get it."""
    tool = shutil.which(TOOL)
    if tool is None:
        raise missing_tool(TOOL, TOOL)
    return tool


def argv(
    tool: str,
    *,
    suite: str,
    mirror: str,
    packages: Sequence[str],
    exclude: Sequence[str],
    output: str,
    hooks: Sequence[str] = (),
    options: Sequence[str] = (),
) -> list[str]:
    """A root of ``suite`` with ``packages``, as a tar archive in ``output`` ("-" is stdout).

    ``exclude`` are paths that dpkg leaves out.  ``hooks`` run in their order
    when all packages are installed.  ``options`` are apt's, as ``apt-config`` dumps them.
    """
    return [
        *(tool, "--variant=essential", "--format=tar", f"--include={','.join(packages)}"),
        # Device nodes cannot be unpacked by an ordinary user; /dev is mounted anyway.
        "--skip=output/dev",
        *(f"--aptopt={option.rstrip(';')}" for option in options),
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in exclude),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(suite, output, f"deb [signed-by={KEYRING}] {mirror} {suite} main"),
    ]


def upload(local: Path, inside: str) -> str:
    """A hook that copies a file into the root; mmdebstrap reads it as the caller."""
    return f"upload {_word(str(local))} {_word(inside)}"


def _word(text: str) -> str:
    # mmdebstrap splits a hook's words with Perl's shellwords.
    return "'" + text.replace("'", "'\\''") + "'"
