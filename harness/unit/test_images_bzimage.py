# SPDX-License-Identifier: MIT
from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from dunelab.errors import InfrastructureError
from dunelab.images import bzimage
from dunelab.images.builder import Builder
from dunelab.images.bzimage import AREA, PAGE, PlainKernel
from dunelab.images.cache import Cache
from dunelab.images.iso import plain_kernel

REPO = Path(__file__).resolve().parents[2]

BASE = 0x1000000
SETUP_SECTS = 3
SETUP = (SETUP_SECTS + 1) * 512
XZ = b"\xfd7zXZ\0"
KASLR = 2


def sample_bzimage(payload: bytes = XZ + b"packed", size: int = 1234, **fields: int) -> bytes:
    """Setup sectors with a header, 16 bytes of decompressor, the payload, more decompressor."""
    setup = bytearray(b"\xaa" * SETUP)
    packed = payload + struct.pack("<I", size)
    struct.pack_into("<B", setup, 0x1F1, fields.get("setup_sects", SETUP_SECTS))
    struct.pack_into("<H", setup, 0x1FE, fields.get("boot_flag", 0xAA55))
    struct.pack_into("<4sH", setup, 0x202, b"HdrS", fields.get("version", 0x20F))
    struct.pack_into("<B", setup, 0x211, 1)
    struct.pack_into("<II", setup, 0x248, 16, fields.get("length", len(packed)))
    return bytes(setup) + b"\xcc" * 16 + packed + b"\xcc" * 16


def sample_vmlinux(
    segments: list[tuple[int, bytes, int]], entry: int = BASE + 0x40, machine: int = 62
) -> bytes:
    """An ELF file with PT_LOAD segments (physical address, content, size in memory) and a note."""
    header = struct.Struct("<16sHHIQQQIHHHHHH")
    program = struct.Struct("<IIQQQQQQ")
    ident = b"\x7fELF\2\1\1".ljust(16, b"\0")
    count = len(segments) + 1
    offset = header.size + count * program.size
    table = program.pack(4, 4, 0, 0, 0, 4, 4, 4)
    body = b""
    for address, content, size in segments:
        where = offset + len(body)
        # The virtual address says nothing of where a segment goes: per-CPU data has 0.
        table += program.pack(1, 7, where, 0, address, len(content), size, 0x200000)
        body += content
    return (
        header.pack(
            ident,
            2,
            machine,
            1,
            entry,
            header.size,
            0,
            0,
            header.size,
            program.size,
            count,
            64,
            0,
            0,
        )
        + table
        + body
    )


def field(data: bytes, form: str, offset: int) -> int:
    value = struct.unpack_from(form, data, offset)[0]
    assert isinstance(value, int)
    return value


# -- taking apart ---------------------------------------------------------------------


def test_the_payload_is_found() -> None:
    parts = bzimage.take_apart(sample_bzimage())
    assert parts.setup == sample_bzimage()[:SETUP]
    assert parts.payload == XZ + b"packed"
    assert parts.unpacked_size == 1234
    assert parts.unpacker == "xz"


def test_no_setup_sectors_mean_four() -> None:
    data = sample_bzimage(setup_sects=0)
    start = data.index(XZ)
    # Moved to where the header says now: one sector further.
    moved = data[: start - 16] + bytes(512) + data[start - 16 :]
    assert bzimage.take_apart(moved).payload == XZ + b"packed"


@pytest.mark.parametrize(
    ("payload", "unpacker"),
    [(b"\x28\xb5\x2f\xfd data", "zstd"), (b"\x1f\x8b\x08 gzip", None), (b"\x7fELF", None)],
)
def test_the_magic_decides(payload: bytes, unpacker: str | None) -> None:
    assert bzimage.take_apart(sample_bzimage(payload)).unpacker == unpacker


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"MZ" * 100, "no boot sector"),
        (sample_bzimage(boot_flag=0), "no boot sector"),
        (sample_bzimage(version=0x204), "protocol 0x20f or newer"),
        (sample_bzimage().replace(b"HdrS", b"hDRs"), "no setup header"),
        (sample_bzimage(length=1 << 20), "ends before the payload"),
        (sample_bzimage(length=3), "ends before the payload"),
    ],
)
def test_what_is_no_bzimage_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        bzimage.take_apart(data)


# -- laying out -----------------------------------------------------------------------


def test_segments_come_to_their_physical_addresses() -> None:
    text, data = b"T" * 5000, b"D" * 100
    kernel = bzimage.lay_out(
        # Not in the order of addresses, and a hole between them.
        sample_vmlinux([(BASE + 0x4000, data, 0x9001), (BASE, text, len(text))])
    )
    assert kernel.base == BASE
    assert kernel.entry == 0x40
    assert kernel.image == text.ljust(0x4000, b"\0") + data.ljust(PAGE, b"\0")
    assert kernel.memory == 0xE000


def test_only_zeros_behind_the_last_byte_are_left_out() -> None:
    content = b"\1" + bytes(3 * PAGE) + b"\2" + bytes(5 * PAGE)
    kernel = bzimage.lay_out(sample_vmlinux([(BASE, content, len(content))]))
    assert kernel.image == content[: 4 * PAGE]
    assert kernel.memory == 9 * PAGE


def test_a_kernel_without_zeros_leaves_room_for_the_entry_code() -> None:
    kernel = bzimage.lay_out(sample_vmlinux([(BASE, b"\1" * PAGE, PAGE)]))
    assert len(kernel.image) == PAGE
    assert kernel.memory == 2 * PAGE


@pytest.mark.parametrize(
    ("vmlinux", "message"),
    [
        (b"MZ and more", "not an ELF file"),
        (sample_vmlinux([(BASE, b"\1", 1)], machine=183), "no x86-64 kernel"),
        (sample_vmlinux([]), "no x86-64 kernel"),
        (sample_vmlinux([(BASE, b"\1" * 100, 100)])[:-1], "ends within a segment"),
    ],
)
def test_what_is_no_kernel_is_refused(vmlinux: bytes, message: str) -> None:
    with pytest.raises(InfrastructureError, match=message):
        bzimage.lay_out(vmlinux)


# -- putting together -----------------------------------------------------------------

KERNEL = PlainKernel(base=BASE, image=b"K" * 2 * PAGE, memory=7 * PAGE, entry=0x40)
CODE = b"C" * PAGE


def test_a_loader_finds_the_kernel_and_the_entry_code() -> None:
    setup = bzimage.take_apart(sample_bzimage()).setup
    made = bzimage.put_together(setup, KERNEL, CODE, kaslr=False)
    protected_mode = made[SETUP:]
    assert protected_mode == KERNEL.image + CODE
    assert field(made, "<I", 0x1F4) * 16 == len(protected_mode)
    # The entry is as far from the start as its address is from the default one.
    entry = field(made, "<I", 0x214) - 0x100000
    assert protected_mode[entry:] == CODE
    assert field(made, "<Q", 0x258) == BASE
    assert field(made, "<I", 0x260) == KERNEL.memory + AREA
    # No other way in, and no payload.
    for form, offset in (("<H", 0x236), ("<Q", 0x248), ("<I", 0x264), ("<I", 0x268)):
        assert field(made, form, offset) == 0
    assert made[0x26C:SETUP] == setup[0x26C:]
    assert made[:0x1F1] == setup[:0x1F1]


def test_kaslr_is_announced_only_when_wanted() -> None:
    setup = bytearray(bzimage.take_apart(sample_bzimage()).setup)
    for before in (1, 1 | KASLR):
        setup[0x211] = before
        on = bzimage.put_together(bytes(setup), KERNEL, CODE, kaslr=True)
        off = bzimage.put_together(bytes(setup), KERNEL, CODE, kaslr=False)
        assert (on[0x211], off[0x211]) == (1 | KASLR, 1)


def test_code_of_another_size_is_refused() -> None:
    with pytest.raises(InfrastructureError, match="has 3 bytes and not 4096"):
        bzimage.put_together(bytes(SETUP), KERNEL, b"abc", kaslr=True)


def assemble(folder: Path, symbols: dict[str, int]) -> bytes:
    """images/plain_boot.S, by the host's own assembler."""
    defined = [f"-D{name}={value:#x}" for name, value in symbols.items()]
    source = str(REPO / "images/plain_boot.S")
    for command in (
        ["gcc", "-m32", "-c", "-Wa,--fatal-warnings", *defined, source, "-o", "entry.o"],
        ["objcopy", "-O", "binary", "-j", ".text", "entry.o", "entry"],
    ):
        subprocess.run(command, cwd=folder, timeout=20, check=True, capture_output=True)
    return (folder / "entry").read_bytes()


def test_the_entry_code_fills_one_page(tmp_path: Path) -> None:
    code = assemble(tmp_path, KERNEL.symbols)
    assert len(code) == PAGE
    assert code[:2] == b"\xfa\xfc"  # cli, cld
    assert code.rstrip(b"\0") != code


def test_entry_code_that_outgrows_its_area_does_not_assemble(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        assemble(tmp_path, {**KERNEL.symbols, "AREA": AREA - PAGE + 8})


def test_a_quick_payload_is_left_to_the_kernel(tmp_path: Path) -> None:
    vmlinuz = tmp_path / "vmlinuz"
    vmlinuz.write_bytes(sample_bzimage(b"\x1f\x8b\x08 gzip"))
    with Cache(tmp_path / "cache") as cache:
        builder = Builder(tmp_path / "nothing", "identity")
        assert plain_kernel(cache, builder, vmlinuz, vmlinuz, kaslr=True) == vmlinuz
