# SPDX-License-Identifier: MIT
"""From ``function+0x12/0x34 [dune]`` to file and line, out of an unstripped .ko.

A module is a relocatable object: each of its sections starts at address 0, so
two functions of different sections share addresses, in the symbol table as in
the line table.  The object's copy in memory is therefore laid out first, each
allocated section at an address of its own, before the DWARF is read; that
needs no change to the file and no tool.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from dunelab.errors import InfrastructureError
from dunelab.results.splat import Frame, parse_frame

_SHF_ALLOC = 0x2
_ALIGN = 0x1000
# Offsets of sh_addr in Elf64_Shdr and of st_value in Elf64_Sym (ELF-64, 1.5).
_SH_ADDR = 16
_ST_VALUE = 8
_SHN_RESERVED = 0xFF00


@dataclass(frozen=True)
class Line:
    """A place in the source."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class _Symbol:
    name: str
    address: int
    size: int


@dataclass(frozen=True)
class _Row:
    start: int
    end: int
    line: Line


def _lay_out(data: bytes) -> bytes:
    """Give each allocated section of a relocatable object its own address."""
    elf = ELFFile(io.BytesIO(data))
    if elf["e_type"] != "ET_REL" or elf.elfclass != 64 or not elf.little_endian:
        return data
    image = bytearray(data)
    bases: dict[int, int] = {}
    next_free = _ALIGN
    for index, section in enumerate(elf.iter_sections()):
        if not section["sh_flags"] & _SHF_ALLOC:
            continue
        align = max(_ALIGN, section["sh_addralign"])
        base = (next_free + align - 1) // align * align
        bases[index] = base
        next_free = base + section["sh_size"]
        header = elf["e_shoff"] + index * elf["e_shentsize"]
        struct.pack_into("<Q", image, header + _SH_ADDR, base)
    for section in elf.iter_sections():
        if not isinstance(section, SymbolTableSection):
            continue
        for number, symbol in enumerate(section.iter_symbols()):
            index = symbol["st_shndx"]
            if not isinstance(index, int) or index >= _SHN_RESERVED or index not in bases:
                continue
            at = section["sh_offset"] + number * section["sh_entsize"] + _ST_VALUE
            struct.pack_into("<Q", image, at, symbol["st_value"] + bases[index])
    return bytes(image)


class SymbolTable:
    """Functions and lines of one ELF file with debug information."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self._elf = ELFFile(io.BytesIO(_lay_out(data)))

    @classmethod
    def of(cls, path: Path) -> SymbolTable:
        """Read ``path``; an unreadable or foreign file is the bench's fault."""
        try:
            return cls(path.read_bytes(), path.name)
        except (OSError, ELFError) as error:
            raise InfrastructureError(
                f"no symbols can be read: {error}",
                evidence=path,
                next_command="dunelab run --rebuild",
            ) from error

    @property
    def has_lines(self) -> bool:
        """Whether the file carries DWARF at all (a stripped one does not)."""
        return bool(self._elf.has_dwarf_info(strict=True))

    def resolve(self, frame: Frame) -> Line | None:
        """The source line of a frame, None when the file does not know it.

        A return address belongs to the call before it, hence one byte less.
        """
        address = self._address(frame)
        if address is None:
            return None
        if not frame.exact:
            address -= 1
        return self.line_at(address)

    def line_at(self, address: int) -> Line | None:
        """The source line of an address as laid out here."""
        return next((row.line for row in self._rows if row.start <= address < row.end), None)

    def _address(self, frame: Frame) -> int | None:
        named = [symbol for symbol in self._symbols if symbol.name == frame.function]
        # Static functions may share a name; the size printed by the kernel
        # includes padding up to the next symbol, so it only ever grows.
        fitting = [symbol for symbol in named if symbol.size <= frame.size]
        best = max(fitting or named, key=lambda symbol: symbol.size, default=None)
        return None if best is None else best.address + frame.offset

    @cached_property
    def _symbols(self) -> tuple[_Symbol, ...]:
        return tuple(
            _Symbol(symbol.name, symbol["st_value"], symbol["st_size"])
            for section in self._elf.iter_sections()
            if isinstance(section, SymbolTableSection)
            for symbol in section.iter_symbols()
            if symbol["st_info"]["type"] in ("STT_FUNC", "STT_NOTYPE") and symbol.name
        )

    @cached_property
    def _rows(self) -> tuple[_Row, ...]:
        if not self.has_lines:
            return ()
        dwarf = self._elf.get_dwarf_info(relocate_dwarf_sections=True)
        return tuple(row for unit in dwarf.iter_CUs() for row in _rows_of(dwarf, unit))


def _rows_of(dwarf: Any, unit: Any) -> Iterator[_Row]:
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    previous = None
    for entry in program.get_entries():
        state = entry.state
        if state is None:
            continue
        if previous is not None and state.address > previous.address:
            line = Line(_file_name(program, previous.file), previous.line)
            yield _Row(previous.address, state.address, line)
        previous = None if state.end_sequence else state


def _file_name(program: Any, index: int) -> str:
    """The file's name with its folder, from a DWARF 4 (1-based) or 5 table."""
    header = program.header
    first = 0 if header["version"] >= 5 else 1
    entries = header["file_entry"]
    if not 0 <= index - first < len(entries):
        return "?"
    entry = entries[index - first]
    name = _text(entry.name)
    folder_index = entry.dir_index
    folders = header["include_directory"]
    if name.startswith("/") or folder_index == 0:
        return name
    at = folder_index if header["version"] >= 5 else folder_index - 1
    if not 0 <= at < len(folders):
        return name
    return f"{_text(folders[at])}/{name}"


def _text(raw: bytes | str) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw


def annotate(lines: Iterable[str], found: dict[Frame, Line]) -> tuple[str, ...]:
    """Append ``(file:line)`` to each line that shows one of the frames."""
    places = {str(frame): line for frame, line in found.items()}
    annotated = []
    for text in lines:
        frame = parse_frame(text)
        place = places.get(str(frame)) if frame is not None else None
        annotated.append(f"{text}  ({place})" if place is not None else text)
    return tuple(annotated)


def resolve_frames(frames: Iterable[Frame], tables: dict[str, SymbolTable]) -> dict[Frame, Line]:
    """Source lines of the frames that belong to a module with known symbols."""
    found: dict[Frame, Line] = {}
    for frame in frames:
        table = tables.get(frame.module or "")
        line = table.resolve(frame) if table is not None else None
        if line is not None:
            found[frame] = line
    return found
