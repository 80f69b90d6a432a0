# SPDX-License-Identifier: MIT
"""A bzImage taken apart, and put together again with its kernel uncompressed.

An emulated CPU spends seconds (zstd) or many of them (XZ) on a kernel that
unpacks itself, and a fraction of a second on reading it plain.  The setup
header's fields are described in Documentation/arch/x86/boot.rst, the part of
the unpacking code by images/plain_boot.S.

Pure functions only.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from dunelab.errors import InfrastructureError

PAGE = 4096
AREA = 7 * PAGE
"""What images/plain_boot.S needs behind the kernel's memory: six page tables, and a page
for itself."""

_SECTOR = 512
_OLDEST = 0x20F  # of the boot protocol: Linux 5.5, the first with all of these fields
_LOADED_AT = 0x100000  # what code32_start counts from
_KASLR_FLAG = 1 << 1  # in loadflags

# Offsets and formats of the setup header's fields.
_SETUP_SECTS = (0x1F1, "<B")
_SYSSIZE = (0x1F4, "<I")
_BOOT_FLAG = (0x1FE, "<H")
_HEADER = (0x202, "<4s")
_VERSION = (0x206, "<H")
_LOADFLAGS = (0x211, "<B")
_CODE32_START = (0x214, "<I")
_XLOADFLAGS = (0x236, "<H")
_PAYLOAD_OFFSET = (0x248, "<I")
_PAYLOAD_LENGTH = (0x24C, "<I")
_PREF_ADDRESS = (0x258, "<Q")
_INIT_SIZE = (0x260, "<I")
_HANDOVER_OFFSET = (0x264, "<I")
_KERNEL_INFO_OFFSET = (0x268, "<I")
_HEADER_END = 0x26C

_UNPACKERS = {b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


@dataclass(frozen=True)
class BzImage:
    """The real-mode part with the setup header, and the compressed vmlinux."""

    setup: bytes
    payload: bytes
    unpacked_size: int

    @property
    def unpacker(self) -> str | None:
        """The program that unpacks the payload; None: better left to the kernel."""
        for magic, program in _UNPACKERS.items():
            if self.payload.startswith(magic):
                return program
        return None


@dataclass(frozen=True)
class PlainKernel:
    """A vmlinux as it lies in memory when it starts.

    ``base`` is its physical address; ``memory`` bytes from there are its own,
    zeros behind ``image``; ``entry`` is the offset of its first instruction.
    """

    base: int
    image: bytes
    memory: int
    entry: int

    @property
    def symbols(self) -> dict[str, int]:
        """What images/plain_boot.S is assembled with."""
        return {"ENTRY": self.entry, "IMAGE": len(self.image), "MEMORY": self.memory, "AREA": AREA}


def take_apart(data: bytes) -> BzImage:
    """Split a bzImage."""
    if len(data) < _HEADER_END or _get(data, _BOOT_FLAG) != 0xAA55:
        raise InfrastructureError("the kernel image is no bzImage: it has no boot sector")
    version = _get(data, _VERSION)
    if _get(data, _HEADER) != b"HdrS" or version < _OLDEST:
        raise InfrastructureError(
            f"the kernel image has no setup header of boot protocol {_OLDEST:#x} or newer"
        )
    # For historical reasons 0 means 4; the boot sector is not counted.
    protected_mode = ((_get(data, _SETUP_SECTS) or 4) + 1) * _SECTOR
    start = protected_mode + _get(data, _PAYLOAD_OFFSET)
    end = start + _get(data, _PAYLOAD_LENGTH)
    if not protected_mode < start < end - 4 < len(data):
        raise InfrastructureError("the kernel image ends before the payload its header announces")
    # The kernel's build appends the unpacked size to what the compressor made.
    size = int.from_bytes(data[end - 4 : end], "little")
    return BzImage(data[:protected_mode], data[start : end - 4], size)


def lay_out(vmlinux: bytes) -> PlainKernel:
    """The segments of an unpacked vmlinux, each at its physical address."""
    try:
        elf = ELFFile(BytesIO(vmlinux))
        loaded = [item.header for item in elf.iter_segments() if item["p_type"] == "PT_LOAD"]
    except ELFError as error:
        raise InfrastructureError(f"the kernel's payload is not an ELF file: {error}") from error
    if elf.get_machine_arch() != "x64" or not loaded:
        raise InfrastructureError("the kernel's payload is no x86-64 kernel")
    base = min(segment.p_paddr for segment in loaded)
    end = max(segment.p_paddr + segment.p_memsz for segment in loaded)
    memory = bytearray(end - base)
    for segment in loaded:
        content = vmlinux[segment.p_offset : segment.p_offset + segment.p_filesz]
        if len(content) != segment.p_filesz:
            raise InfrastructureError("the kernel's payload ends within a segment")
        start = segment.p_paddr - base
        memory[start : start + segment.p_filesz] = content
    image = bytes(memory).rstrip(b"\0")
    image += bytes(-len(image) % PAGE)
    return PlainKernel(
        base=base,
        image=image,
        # The entry code is loaded behind the image and must not overlap its own copy.
        memory=max(-(-(end - base) // PAGE) * PAGE, len(image) + PAGE),
        entry=elf.header.e_entry - base,
    )


def put_together(setup: bytes, kernel: PlainKernel, code: bytes, *, kaslr: bool) -> bytes:
    """A bzImage of the kernel and ``code``, which is images/plain_boot.S assembled for it.

    Nobody moves the kernel's text: that was the decompressor's part of KASLR.
    With ``kaslr`` the kernel is told that KASLR is on and does its own part,
    which is where the direct map, vmalloc, the page array and modules are.
    """
    if len(code) != PAGE:
        raise InfrastructureError(f"the entry code has {len(code)} bytes and not {PAGE}")
    protected_mode = kernel.image + code
    header = bytearray(setup)
    flags = _get(setup, _LOADFLAGS) & ~_KASLR_FLAG
    for field, value in (
        (_SYSSIZE, len(protected_mode) // 16),
        (_LOADFLAGS, flags | (_KASLR_FLAG if kaslr else 0)),
        (_CODE32_START, _LOADED_AT + len(kernel.image)),
        (_PREF_ADDRESS, kernel.base),
        (_INIT_SIZE, kernel.memory + AREA),
        # What they announce went with the decompressor: other ways in, the payload.
        (_XLOADFLAGS, 0),
        (_HANDOVER_OFFSET, 0),
        (_KERNEL_INFO_OFFSET, 0),
        (_PAYLOAD_OFFSET, 0),
        (_PAYLOAD_LENGTH, 0),
    ):
        offset, form = field
        struct.pack_into(form, header, offset, value)
    return bytes(header) + protected_mode


def _get(data: bytes, field: tuple[int, str]) -> Any:
    offset, form = field
    return struct.unpack_from(form, data, offset)[0]
