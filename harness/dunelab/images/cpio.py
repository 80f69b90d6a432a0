# SPDX-License-Identifier: MIT
"""A writer for the kernel's initramfs format ("newc" cpio).

Written here and not by cpio(1) because an archive must not depend on who made
it: owners are root, times are zero, inode numbers count up, and a device node
needs no privilege.  Format: Documentation/driver-api/early-userspace/
buffer-format.rst in the kernel tree.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

_HEADER = "070701" + "{:08X}" * 13
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class _Member:
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Initramfs:
    """Members by path; directories above a member are made as needed."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}

    def directory(self, path: str, mode: int = 0o755) -> None:
        """A directory; given twice, the later mode holds."""
        self._add(path, _Member(stat.S_IFDIR | mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._add(path, _Member(stat.S_IFREG | mode, data))

    def symlink(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, _Member(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """A character device node."""
        self._add(path, _Member(stat.S_IFCHR | mode, device=(major, minor)))

    def __contains__(self, path: str) -> bool:
        return path.strip("/") in self._members

    def _add(self, path: str, member: _Member) -> None:
        name = path.strip("/")
        parent, _, _ = name.rpartition("/")
        if parent and parent not in self._members:
            self.directory(parent)
        self._members[name] = member

    def pack(self) -> bytes:
        """The archive; parents precede children, as the kernel requires."""
        out = bytearray()
        for inode, name in enumerate(sorted(self._members), 1):
            out += _entry(inode, name, self._members[name])
        out += _entry(0, _TRAILER, _Member(0))
        return bytes(out) + _padding(len(out), 512)


def _padding(length: int, to: int = 4) -> bytes:
    return b"\0" * (-length % to)


def _entry(inode: int, name: str, member: _Member) -> bytes:
    encoded = name.encode() + b"\0"
    links = 2 if stat.S_ISDIR(member.mode) else 1
    header = _HEADER.format(
        inode,
        member.mode,
        0,  # uid
        0,  # gid
        links,
        0,  # mtime
        len(member.data),
        0,  # device the file is on, major
        0,  # and minor
        *member.device,
        len(encoded),
        0,  # checksum, unused in this format
    ).encode()
    head = header + encoded
    return head + _padding(len(head)) + member.data + _padding(len(member.data))
