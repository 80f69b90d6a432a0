# SPDX-License-Identifier: MIT
"""The builder root: a Debian root that compilers and image tools run in.

It is made by mmdebstrap and then unpacked so that every file belongs to the
caller.  Commands run in it by chroot inside private namespaces: mounts, a
process tree that dies with its parent, and no network.  An ordinary user
needs nothing but permission for user namespaces; root needs none of that.
Mounts exist in the namespace only, so nothing can be left mounted.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dunelab.deadline import Deadline
from dunelab.errors import BuildFailed, InfrastructureError
from dunelab.images import mmdebstrap
from dunelab.images.archive import Archive, download_options
from dunelab.images.cache import Cache
from dunelab.images.digest import Digest
from dunelab.images.process import capture, last_words, run, stop_group
from dunelab.images.recipes import BuilderRecipe
from dunelab.images.resolve import Record

WORK = "/work"
# What module, library and programs are compiled with.
COMPILER = "gcc-14"
_BOOTSTRAP_SECONDS = 900.0
_FORMAT = "2"

# Every file compiled carries the same date, so equal inputs give equal bytes.
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",  # noqa: S108  a tmpfs of the sandbox's own
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "SOURCE_DATE_EPOCH": "1",
}

# $1 root, $2 working directory, $3 number of mounts, then pairs of host path
# and path inside, then the command.  /work and /usr/src are empty in the root
# and become the sandbox's own; a mount point elsewhere is made in the root.
_ENTER = """
set -eu
root=$1 cwd=$2 count=$3
shift 3
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
for own in /tmp /run /work /usr/src; do
    mount -t tmpfs -o mode=755 tmpfs "$root$own"
done
while [ "$count" -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    shift 2
    count=$((count - 1))
done
exec chroot "$root" /usr/bin/env -C "$cwd" -i "$@"
"""


class Builder:
    """A finished builder root, and how to run a command in it."""

    def __init__(self, root: Path, identity: str) -> None:
        self.root = root
        self.identity = identity

    @property
    def compiler(self) -> str:
        """The compiler's package and version, as the root's dpkg knows them."""
        status = self.root / "var/lib/dpkg/status"
        return package_version(status.read_text("utf-8", "replace"), COMPILER)

    @property
    def gcc_version(self) -> int:
        """The compiler's version as the kernel's configuration writes it: 140200."""
        numbers = [int(number) for number in re.findall(r"\d+", self.compiler.partition(" ")[2])]
        major, minor, patch = numbers[:3]
        return major * 10000 + minor * 100 + patch

    def run(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        deadline: Deadline,
        what: str,
        binds: Mapping[Path, str] | None = None,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Run ``argv`` in the root with host folders mounted at the paths in ``binds``."""
        run(
            self.argv(argv, binds=binds or {}, cwd=cwd, env=env or {}, uid=os.geteuid()),
            log=log,
            deadline=deadline,
            what=what,
        )

    def argv(
        self,
        argv: Sequence[str],
        *,
        binds: Mapping[Path, str],
        cwd: str,
        env: Mapping[str, str],
        uid: int,
    ) -> list[str]:
        """The host command that enters the root; a pure function of its arguments."""
        mounts = [word for host, inside in binds.items() for word in (str(host), inside)]
        variables = [f"{key}={value}" for key, value in {**_ENVIRONMENT, **env}.items()]
        return [
            *namespaces(uid),
            *("sh", "-c", _ENTER, "enter-builder", str(self.root), cwd),
            *(str(len(binds)), *mounts, *variables, *argv),
        ]


def package_version(status: str, name: str) -> str:
    """Name and version of a package in dpkg's status file; empty if it is not there."""
    found = re.search(rf"^Package: {re.escape(name)}\n(?:.+\n)*?Version: (.+)$", status, re.M)
    return f"{name} {found[1]}" if found else ""


def namespaces(uid: int) -> list[str]:
    """The command in front of everything that runs in the root.

    setpriv ends unshare when the harness is killed, unshare then ends the
    first process of the namespace, and the kernel all the others.
    """
    user = [] if uid == 0 else ["--user", "--map-root-user"]
    die_together = ["setpriv", "--pdeathsig", "KILL"]
    return [*die_together, "unshare", *user, "--mount", "--pid", "--net", "--fork", "--kill-child"]


def check_namespaces(uid: int) -> None:
    """Fail early, with the way out, where namespaces are not to be had."""
    try:
        capture(
            [*namespaces(uid), "true"],
            deadline=Deadline.after(20, "unshare"),
            what="making a namespace for the builder",
        )
    except InfrastructureError as error:
        raise InfrastructureError(
            f"{error.what}; an ordinary user needs user namespaces to build images",
            next_command="sudo dunelab build   (or: sudo sysctl kernel.unprivileged_userns_clone=1"
            " kernel.apparmor_restrict_unprivileged_userns=0)",
        ) from error


def open_builder(
    cache: Cache,
    recipe: BuilderRecipe,
    record: Record,
    archive: Archive,
    progress: Callable[[str], None],
) -> Builder:
    """The builder root from the cache, made if it is not there."""
    digest = (
        record.digest("builder root")
        .text("format", _FORMAT)
        .text("suite", recipe.suite)
        .texts("exclude", recipe.exclude)
        .hex()
    )

    def make(folder: Path) -> None:
        progress("builder root")
        _bootstrap(cache, recipe, archive.mirror, folder / "root", digest)

    entry = cache.get_or_make("builder", digest, make)
    root = entry / "root"
    status = root / "var/lib/dpkg/status"
    return Builder(root, Digest("builder identity").file("status", status).hex())


def _bootstrap(cache: Cache, recipe: BuilderRecipe, mirror: str, root: Path, digest: str) -> None:
    check_namespaces(os.geteuid())
    argv = mmdebstrap.argv(
        mmdebstrap.require(),
        suite=recipe.suite,
        mirror=mirror,
        packages=recipe.packages,
        exclude=recipe.exclude,
        options=download_options(),
        output="-",
    )
    root.mkdir()
    log = cache.logs / f"builder-{digest[:12]}.log"
    deadline = Deadline.after(_BOOTSTRAP_SECONDS, "builder root")
    # One tree owner for all files: no second user id is needed to use or delete it.
    extract = ["tar", "-x", "-f", "-", "-C", str(root), "--no-same-owner", "--exclude=./dev/*"]
    with log.open("wb") as sink:
        source = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=sink,
            start_new_session=True,
        )
        try:
            unpacked = subprocess.run(
                extract,
                stdin=source.stdout,
                stdout=sink,
                stderr=sink,
                timeout=deadline.remaining(),
                check=False,
            )
            if source.stdout is not None:
                source.stdout.close()
            status = source.wait(timeout=deadline.remaining())
        except subprocess.TimeoutExpired as error:
            raise BuildFailed(
                f"mmdebstrap did not end within {deadline.seconds:.0f} s", evidence=log
            ) from error
        finally:
            if source.poll() is None:
                stop_group(source)
    if status != 0 or unpacked.returncode != 0:
        raise BuildFailed(f"mmdebstrap failed: {last_words(log)}", evidence=log)
    for folder in ("dev", "proc", "tmp", "run", WORK.strip("/"), "usr/src"):
        (root / folder).mkdir(parents=True, exist_ok=True)
