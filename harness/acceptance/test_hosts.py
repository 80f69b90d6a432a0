# SPDX-License-Identifier: MIT
"""The matrix over two machines: two namespaces of this one, each with an SSH server.

Each has a network, a host name, processes and a working folder of its own; a third
namespace is the machine that gives the work.  Nothing of the host's network is touched.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.store import find_repo_root
from dunelab.matrix.record import read_report
from dunelab.spec import EngineName, Vendor

TOOLS = ("git", "ip", "parallel", "rsync", "ssh", "ssh-keygen", "sshd", "unshare")
SECONDS = 900
HOSTS = ("far-a", "far-b")

# In the private mounts of a machine: its own folder at the path that all have in common.
SERVE = """
set -eu
hostname "$1"
mount --bind "$2" "$3"
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec "$4" -D -e -f "$5"
"""

needs_tools = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, TOOLS)),
    reason=f"makes namespaces and SSH servers: needs root and {', '.join(TOOLS)}",
)


def run(*argv: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(argv, cwd=cwd, check=True, capture_output=True, timeout=120)


def set_up(tree: Path, seen_as: Path) -> None:
    """What ``ci/bootstrap deps`` would do, which has no network here.

    The tree's own harness, with the libraries that this test runs with.
    """
    run(sys.executable, "-m", "venv", "--without-pip", tree / ".venv")
    site = next((tree / ".venv/lib").glob("python3*")) / "site-packages"
    site.joinpath("tree.pth").write_text(
        f"{seen_as / 'harness'}\n{sysconfig.get_paths()['purelib']}\n"
    )
    command = tree / ".venv/bin/dunelab"
    command.write_text(
        f"#!{seen_as / '.venv/bin/python'}\n"
        "from dunelab.cli.main import main\nraise SystemExit(main())\n"
    )
    command.chmod(0o755)
    shutil.copy(find_repo_root() / "pyproject.toml", tree / ".venv/dunelab.stamp")


def copy_of_the_tree(target: Path) -> None:
    """As it is, with what is not committed, and with its history."""
    root = find_repo_root()
    run("git", "clone", "-q", "--shared", root, target)
    listed = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True)
    names = [name for name in listed.stdout.splitlines() if (root / os.fsdecode(name)).exists()]
    subprocess.run(
        ["rsync", "-a", "--files-from=-", f"{root}/", f"{target}/"],
        input=b"\n".join(names),
        check=True,
        timeout=120,
    )


@dataclass(frozen=True)
class Near:
    """The machine that gives the work, with all that it knows of the others."""

    namespace: str
    tree: Path
    hosts: Path
    far_tree: Path

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "DUNELAB_WORKDIR": str(self.far_tree),
            "PARALLEL_HOME": str(self.hosts.parent / "parallel"),
        }
        return subprocess.run(
            ["ip", "netns", "exec", self.namespace, "sh", "ci/hosts", str(self.hosts), *words],
            cwd=self.tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@pytest.fixture
def near(tmp_path: Path) -> Iterator[Near]:
    """Three namespaces with links between them; both far ones listen."""
    prefix = f"dune{os.getpid()}"
    near_space = f"{prefix}n"
    far_tree = tmp_path / "far"
    far_tree.mkdir()
    for key in ("client", "server"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / key)
    config = [
        f"IdentityFile {tmp_path / 'client'}\nUser root\nBatchMode yes\n"
        f"StrictHostKeyChecking no\nUserKnownHostsFile {tmp_path / 'known'}\nLogLevel ERROR\n"
    ]
    with contextlib.ExitStack() as undo:
        _namespace(undo, near_space)
        for number, name in enumerate(HOSTS, 1):
            space = f"{prefix}f{number}"
            _namespace(undo, space)
            address = f"10.77.{number}."
            ends = ("name", f"far{number}", "netns", near_space, "type", "veth", "peer")
            run("ip", "link", "add", *ends, "name", "near", "netns", space)
            for where, device, last in ((near_space, f"far{number}", 1), (space, "near", 2)):
                run("ip", "-n", where, "address", "add", f"{address}{last}/24", "dev", device)
                run("ip", "-n", where, "link", "set", device, "up")
            own = tmp_path / name
            own.mkdir()
            set_up(own, far_tree)
            _serve(undo, tmp_path, space, name, f"{address}2", far_tree)
            config.append(f"Host {name}\nHostName {address}2\n")
        ssh_config = tmp_path / "ssh_config"
        # What stands first counts: the common part is for all, so it comes last.
        ssh_config.write_text("".join([*config[1:], "Host *\n", config[0]]))
        for name in HOSTS:
            _wait_for_ssh(near_space, ssh_config, name)
        hosts = tmp_path / "hosts"
        hosts.write_text("".join(f"1/ssh -F {ssh_config} {name}\n" for name in HOSTS))
        tree = tmp_path / "near"
        copy_of_the_tree(tree)
        set_up(tree, tree)
        yield Near(near_space, tree, hosts, far_tree)


def _namespace(undo: contextlib.ExitStack, name: str) -> None:
    run("ip", "netns", "add", name)
    undo.callback(run, "ip", "netns", "delete", name)
    # The guests' SSH ports are forwarded there.
    run("ip", "-n", name, "link", "set", "lo", "up")


def _serve(
    undo: contextlib.ExitStack, folder: Path, space: str, name: str, address: str, far_tree: Path
) -> None:
    config = folder / f"sshd-{name}.conf"
    config.write_text(
        f"ListenAddress {address}\nHostKey {folder / 'server'}\n"
        f"AuthorizedKeysFile {folder / 'client.pub'}\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nPermitRootLogin prohibit-password\nPidFile none\n"
        # Where machines' folders go: /run is each one's own.
        "SetEnv XDG_RUNTIME_DIR=/run\n"
    )
    argv = ["ip", "netns", "exec", space, "unshare", "--uts", "--mount", "--pid", "--fork"]
    argv += ["--kill-child", "--mount-proc", "sh", "-c", SERVE, "serve", name]
    argv += [str(folder / name), str(far_tree), str(shutil.which("sshd")), str(config)]
    log = undo.enter_context((folder / f"sshd-{name}.log").open("wb"))
    server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    undo.callback(server.wait, 30)
    undo.callback(server.kill)


def _wait_for_ssh(space: str, config: Path, name: str) -> None:
    deadline = Deadline.after(60, f"the SSH server of {name}")
    argv = ["ip", "netns", "exec", space, "ssh", "-F", str(config), name, "hostname"]
    while True:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode == 0:
            assert done.stdout.strip() == name
            return
        deadline.check()


@needs_tools
@pytest.mark.slow(SECONDS)
@pytest.mark.usefixtures("resting_guests")
def test_two_machines_share_the_cells_of_a_matrix(near: Near, lab: DuneLab) -> None:
    kernel = lab.default_kernel()
    # What the machines would fetch from the archive is in the cache that they share.
    lab.store.programs()
    lab.store.iso(lab.store.guest_image(kernel), "")
    lab.store.bochs()
    done = near.run("--kernel", kernel, "--suite", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    out = near.tree / "results/hosts"
    report = read_report(out / "table")
    cells = {cell.vendor: cell for cell in report.cells}
    assert set(cells) == set(Vendor)
    assert {cell.verdict.value for cell in report.cells} == {"pass"}
    assert {cell.host for cell in report.cells} == set(HOSTS)
    assert cells[Vendor.AMD].cell == f"{EngineName.TCG}-amd-{kernel}"
    assert report.suite == "quick"
    assert [build.kernel for build in report.builds] == [kernel]
    for host in HOSTS:
        assert f" {host} " in (out / "table/matrix.md").read_text()
        # Each did its work in a folder of its own.
        assert (near.tree.parent / host / "results").is_dir()
    with (out / "jobs").open() as log:
        jobs = list(csv.DictReader(log, delimiter="\t"))
    assert [job["Exitval"] for job in jobs] == ["0", "0"]
    assert len({job["Host"] for job in jobs}) == 2
    kcidb = json.loads((out / "table/kcidb.json").read_text())
    seen = {test["environment"]["misc"].get("host") for test in kcidb["tests"]}
    assert seen >= set(HOSTS)
    assert len([test for test in kcidb["tests"] if test["status"] == "PASS"]) > len(HOSTS)
