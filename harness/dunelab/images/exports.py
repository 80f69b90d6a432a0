# SPDX-License-Identifier: MIT
"""What a kernel exports to modules, read from its image; what a module wants, from its .ko.

For kernels whose headers are gone: a module cannot be built for them, but whether the
loader would find its symbols can still be told.  The layout is that of the kernel's
include/linux/export-internal.h and kernel/module/internal.h since 5.4: an entry of the
tables ``__ksymtab*`` is three 32-bit offsets, each relative to where it stands: to the
symbol, to its name, to the name of its namespace.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from dunelab.errors import InfrastructureError

_ENTRY = struct.Struct("<iii")
_TABLE = "__ksymtab"
_STRINGS = "__ksymtab_strings"
# A namespace that is a list of modules, since 6.16: nobody else may have the symbol.
_FOR_MODULES = "module:"


@dataclass(frozen=True)
class Drift:
    """What of a module's imports a kernel does not give it.

    ``gone`` are not exported at all, ``reserved`` only to modules that are named.
    """

    wanted: int
    gone: tuple[str, ...]
    reserved: tuple[str, ...]

    @property
    def none(self) -> bool:
        return not (self.gone or self.reserved)


def exports(vmlinux: bytes) -> dict[str, str]:
    """Exported symbols with their namespaces (mostly empty), of an unpacked kernel."""
    try:
        elf = ELFFile(io.BytesIO(vmlinux))
        tables = [
            (section["sh_addr"], section.data())
            for section in elf.iter_sections()
            if section.name in (_TABLE, f"{_TABLE}_gpl")
        ]
        strings = elf.get_section_by_name(_STRINGS)
    except ELFError as error:
        raise InfrastructureError(f"the kernel is not an ELF file: {error}") from error
    if not tables or strings is None:
        raise InfrastructureError("the kernel's image has no table of exported symbols")
    base, texts = strings["sh_addr"], strings.data()
    found: dict[str, str] = {}
    for start, table in tables:
        for offset in range(0, len(table) - len(table) % _ENTRY.size, _ENTRY.size):
            _, name, space = _ENTRY.unpack_from(table, offset)
            at = start + offset
            found[_text(texts, at + 4 + name - base)] = _text(texts, at + 8 + space - base)
    found.pop("", None)
    return found


def imports(module: bytes) -> tuple[str, ...]:
    """The symbols that a module leaves to the loader."""
    elf = ELFFile(io.BytesIO(module))
    return tuple(
        sorted(
            symbol.name
            for section in elf.iter_sections()
            if isinstance(section, SymbolTableSection)
            for symbol in section.iter_symbols()
            if symbol["st_shndx"] == "SHN_UNDEF" and symbol.name
        )
    )


def drift(wanted: Iterable[str], given: Mapping[str, str]) -> Drift:
    """Hold a module's imports against a kernel's exports."""
    names = sorted(set(wanted))
    return Drift(
        wanted=len(names),
        gone=tuple(name for name in names if name not in given),
        reserved=tuple(name for name in names if given.get(name, "").startswith(_FOR_MODULES)),
    )


def _text(strings: bytes, at: int) -> str:
    """The string at an offset; outside of the section there is none."""
    if not 0 <= at < len(strings):
        return ""
    return strings[at : strings.index(b"\0", at)].decode("ascii", "replace")
