# SPDX-License-Identifier: MIT
"""httpsd, libwedge's demonstrator, in the full guest: Heartbleed played against it, over TLS.

The same questions are put to the same server as an ordinary process, which must give its secrets
away: so the test can tell.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune import guest as dune_module
from dunelab.dune.lab import DuneLab
from dunelab.machine.machine import Machine
from dunelab.pytest_support.pool import Guest
from dunelab.pytest_support.runner import GUEST_FOLDER, push_once

pytestmark = [
    pytest.mark.guest_variant(image="full"),
    pytest.mark.guest_group("real"),
    pytest.mark.thorough,
    pytest.mark.slow(bochs=120),
]

DATA = Path(__file__).resolve().parent / "data" / "httpsd"
WORK = "/tmp/httpsd"  # noqa: S108 - a folder in the guest
SECONDS = 300.0

MAKE_KEY = (
    "[ -e key.pem ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
    "-keyout key.pem -out cert.pem -days 3650 -subj /CN=localhost 2>log"
)
# Until it says where it listens, or is gone.
START = """\
{httpsd} {options} --vulnerable --cert cert.pem --key key.pem </dev/null >out 2>err &
echo $! >pid
until [ -s out ]; do kill -0 $(cat pid) || {{ cat err >&2; exit 1; }}; sleep 0.1; done
"""


@dataclass(frozen=True)
class Server:
    """One that runs; ``run`` is a command in its folder."""

    run: Callable[[str], str]
    port: int

    def attack(self, *ways: str) -> list[dict[str, int | bool | str]]:
        """What attack.py found, way by way."""
        said = self.run(f"python3 {GUEST_FOLDER}/attack.py {self.port} key.pem {' '.join(ways)}")
        return [json.loads(line) for line in said.splitlines()]


Start = Callable[[str], Server]


@pytest.fixture
def pushed(guest_context: Guest, lab: DuneLab) -> None:
    """The server, and who attacks it."""
    files = {"httpsd": lab.store.programs().app("httpsd"), "attack.py": DATA / "attack.py"}
    push_once(guest_context, files)


@pytest.fixture
def start(guest: Machine, pushed: None) -> Iterator[Start]:
    """Start a server with such options; it ends with the test."""

    def run(text: str) -> str:
        command = f"mkdir -p {WORK} && cd {WORK} || exit\n{text}"
        return guest.succeed(command, Deadline.after(SECONDS, f"end of {text!r}"))

    def begin(options: str) -> Server:
        run(MAKE_KEY)
        run(START.format(httpsd=f"{GUEST_FOLDER}/httpsd", options=options))
        found = re.search(r":(\d+)/$", run("cat out").strip())
        assert found
        return Server(run, int(found[1]))

    yield begin
    if guest.alive:
        run("kill $(cat pid); rm -f out err pid")


def ended(server: Server) -> list[int]:
    """The addresses that workers were ended at."""
    said = server.run("cat err").splitlines()
    words = r"httpsd: a worker was ended: it may not read (0x\w+) .*"
    found = [re.fullmatch(words, line) for line in said]
    assert all(found), said
    return [int(match[1], 16) for match in found if match]


def test_heartbleed_finds_neither_key_nor_neighbour(start: Start) -> None:
    server = start("--threads 2")
    page, tags, around, again = server.attack("page", "tags", "around", "page")
    assert page["page"]
    # The keys' tag is the first; behind it lie the two threads' desks, one of which is its own.
    at = ended(server)
    assert 0x200040000000 in at
    assert tags["answered"] == 1
    # It had its own memory and what is behind it; elsewhere, it was ended.
    assert around["own"]
    assert around["answered"] + tags["answered"] + len(at) == around["asked"] + tags["asked"]
    assert 0 < around["answered"] < around["asked"]
    for loot in (tags, around):
        assert not loot["key"]
        assert not loot["neighbour"]
    assert again["page"]


@pytest.mark.parametrize(("way", "neighbour"), [("fork", False), ("thread", True)])
def test_without_compartments_it_finds_them(start: Start, way: str, neighbour: bool) -> None:
    page, around = start(f"--plain {way}").attack("page", "around")
    assert page["page"]
    assert around["key"]
    assert around["neighbour"] == neighbour


def test_no_two_connections_draw_the_same_random_numbers(start: Start) -> None:
    """Each compartment begins with a copy of the same state of libcrypto's generators."""
    server = start("--threads 1")
    talk = f"openssl s_client -connect 127.0.0.1:{server.port} -msg </dev/null 2>&1 || true"
    hellos = []
    for _ in range(3):
        found = re.search(r"ServerHello\n((?:    [0-9a-f ]+\n)+)", server.run(talk))
        assert found
        # Its type, length and version; then 32 random bytes.
        hellos.append(bytes.fromhex(found[1])[6:38])
    assert len(set(hellos)) == len(hellos)


@pytest.mark.parametrize("version", ["TLS1.2", "TLS1.3"])
def test_many_at_a_time(start: Start, version: str) -> None:
    server = start("--threads 4")
    said = server.run(f"ab -q -n 60 -c 6 -f {version} https://127.0.0.1:{server.port}/")
    assert re.search(r"Complete requests: +60\n", said), said
    assert re.search(r"Failed requests: +0\n", said), said
    assert f"{version.replace('TLS1', 'TLSv1')},ECDHE" in said or "TLS_AES" in said, said
    assert server.run("cat err") == ""


def test_it_wants_dune_mode(guest: Machine, pushed: None, reloaded: None) -> None:
    """Without the module it says so, and serves nobody."""
    dune_module.unload_module(guest)
    done = guest.run(
        f"{GUEST_FOLDER}/httpsd --http --connections 1",
        Deadline.after(SECONDS, "a server without dune.ko"),
    )
    assert done.exit_status == 1
    assert "no Dune mode here" in done.stderr
