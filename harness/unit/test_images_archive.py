# SPDX-License-Identifier: MIT
from __future__ import annotations

import itertools

import pytest

from dunelab.errors import InfrastructureError
from dunelab.images import archive, debian

HOST = "example.invalid"
SHOWSRC = f"""Package: bochs
Version: 3.0+dfsg-1
Directory: pool/main/b/bochs
Checksums-Sha1:
 00 1 bochs_3.0+dfsg.orig.tar.xz
Checksums-Sha256:
 {"a" * 64} 2554 bochs_3.0+dfsg-1.dsc
 {"b" * 64} 3896488 bochs_3.0+dfsg.orig.tar.xz
 {"c" * 64} 30720 bochs_3.0+dfsg-1.debian.tar.xz

Package: bochs
Version: 3.01-1
Directory: pool/main/b/bochs
Checksums-Sha256:
 {"d" * 64} 1 bochs_3.01.orig.tar.xz
"""


def test_versions_sort_as_dpkg_sorts_them() -> None:
    # Each is older than the next; checked against dpkg --compare-versions.
    ascending = [
        "1.0~~",
        "1.0~rc1",
        "1.0",
        "1.0-0.1",
        "1.0-1",
        "1.0a",
        "1.0+b1",
        "1.0.1",
        "1.2",
        "1.10",
        "6.12.94-1",
        "6.12.95-1~bpo12+1",
        "6.12.95-1",
        "6.12.107-1",
        "1:0.1",
    ]
    for older, newer in itertools.pairwise(ascending):
        assert debian.version_key(older) < debian.version_key(newer), (older, newer)
    assert debian.version_key("1.0") == debian.version_key("1.0-0")
    assert debian.version_key("0:1.01") == debian.version_key("1.1")


def test_paragraphs_keep_continuations() -> None:
    first, second = debian.paragraphs("A: 1\nB:\n x\n y\n\n\nA: 2\n")
    assert first == {"A": "1", "B": "\nx\ny"}
    assert second == {"A": "2"}


def test_dependency_names() -> None:
    assert debian.dependency_names("a (>= 1), b:any | c (= 2), d") == [["a"], ["b", "c"], ["d"]]
    assert debian.dependency_names("") == []


def test_source_archive_is_picked_with_its_checksum() -> None:
    found = archive.pick_source(list(debian.paragraphs(SHOWSRC)), "bochs", "3.0", "trixie")
    assert found.version == "3.0+dfsg-1"
    assert found.filename == "pool/main/b/bochs/bochs_3.0+dfsg.orig.tar.xz"
    assert (found.sha256, found.size) == ("b" * 64, 3896488)


def test_a_source_that_is_not_there_says_what_is() -> None:
    with pytest.raises(InfrastructureError, match=r"offered: 3\.0\+dfsg-1, 3\.01-1"):
        archive.pick_source(list(debian.paragraphs(SHOWSRC)), "bochs", "2.7", "trixie")


def test_mirror_is_the_main_archive_and_not_security() -> None:
    listing = (
        f"Google, Inc.\tGoogle\thttp://{HOST}/google/\n"
        f"Debian\tDebian-Security\thttp://{HOST}/debian-security/\n"
        f"Debian\tDebian\thttp://{HOST}/debian/\n"
        f"Debian\tDebian\thttp://{HOST}/second/\n"
    )
    assert archive.parse_mirror(listing) == f"http://{HOST}/debian/"
    assert archive.parse_mirror(f"Ubuntu\tUbuntu\thttp://{HOST}/ubuntu/\n") is None


def test_mirror_from_what_mmdebstrap_wrote() -> None:
    text = (
        "I: automatically chosen mode: root\n"
        f"x: deb [signed-by=/k] http://{HOST}/debian trixie main\n"
        f"x: deb http://{HOST}/debian trixie-updates main\n"
        "E: hook failed\n"
    )
    assert archive.parse_sources(text, "x: ", "trixie") == f"http://{HOST}/debian"
    assert archive.parse_sources(text, "x: ", "sid") is None
