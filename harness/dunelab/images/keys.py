# SPDX-License-Identifier: MIT
"""The SSH keys of this cache's guests: made once, kept private."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from dunelab.images.cache import Cache
from dunelab.images.digest import Digest

_COMMENT = "dunelab"


@dataclass(frozen=True)
class Keys:
    """Paths of the client's key pair and the server's keys."""

    client: Path
    client_public: Path
    host: Path
    host_public: Path


def open_keys(cache: Cache) -> Keys:
    """The key pairs of this cache, made when first asked for."""
    digest = Digest("ssh keys").text("format", "1").hex()
    folder = cache.get_or_make("keys", digest, _make)
    return Keys(
        folder / "client", folder / "client.pub", folder / "host_dropbear", folder / "host.pub"
    )


def _make(folder: Path) -> None:
    client = Ed25519PrivateKey.generate()
    host = Ed25519PrivateKey.generate()
    _write_private(
        folder / "client",
        client.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    )
    _write_private(folder / "host_dropbear", dropbear_key(host))
    for name, key in (("client.pub", client), ("host.pub", host)):
        (folder / name).write_text(f"{public_line(key)} {_COMMENT}\n", encoding="utf-8")


def _write_private(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as stream:
        stream.write(data)


def public_line(key: Ed25519PrivateKey) -> str:
    """``ssh-ed25519 AAAA...``, as in authorized_keys."""
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def dropbear_key(key: Ed25519PrivateKey) -> bytes:
    """Dropbear's own file format: key type, then seed and public point as one string."""
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    point = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _string(b"ssh-ed25519") + _string(seed + point)


def _string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
