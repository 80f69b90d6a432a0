# SPDX-License-Identifier: MIT
"""Unpacking packages without installing them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, DeadlineExpired
from dunelab.images.process import last_words, stop_group

_UNPACK_SECONDS = 300.0


def unpack(deb: Path, target: Path, log: Path) -> None:
    """Unpack a package below ``target``; everything there belongs to the caller."""
    target.mkdir(parents=True, exist_ok=True)
    deadline = Deadline.after(_UNPACK_SECONDS, f"unpacking of {deb.name}")
    extract = ["tar", "-x", "-f", "-", "-C", str(target), "--no-same-owner"]
    extract += ["--keep-directory-symlink"]
    with log.open("ab") as sink:
        source = subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", str(deb)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
        )
        try:
            done = subprocess.run(
                extract,
                stdin=source.stdout,
                stdout=sink,
                stderr=sink,
                timeout=deadline.remaining(),
                check=False,
            )
            if source.stdout is not None:
                source.stdout.close()
            source.wait(timeout=deadline.remaining())
        except subprocess.TimeoutExpired as error:
            raise DeadlineExpired(
                f"{deadline.what} took over {deadline.seconds:.0f} s", evidence=log
            ) from error
        finally:
            if source.poll() is None:
                stop_group(source)
    if done.returncode != 0 or source.returncode != 0:
        raise BuildFailed(f"{deb.name} could not be unpacked: {last_words(log)}", evidence=log)
