# SPDX-License-Identifier: MIT
"""Frames to source lines, on objects compiled here and now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dunelab.errors import InfrastructureError
from dunelab.results.splat import Frame
from dunelab.results.symbols import Line, SymbolTable, annotate, resolve_frames

SOURCE = """\
extern int elsewhere(int);

__attribute__((section(".init.text"), noinline)) int early(int n)
{
\tint m = n + 1;
\treturn elsewhere(m) + 7;
}

__attribute__((noinline)) int late(int n)
{
\tint m = n * 3;
\treturn elsewhere(m) - 9;
}
"""
EARLY_CALL, LATE_CALL = 6, 12


def build(folder: Path, *flags: str) -> Path:
    source = folder / "unit.c"
    source.write_text(SOURCE)
    target = folder / "unit.o"
    command = ["gcc", "-O0", *flags, "-c", source.name, "-o", target.name]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return target


def call_offset(path: Path, function: str) -> tuple[int, int]:
    """Offset behind the call in a function, and the function's size, by objdump."""
    listing = subprocess.run(
        ["objdump", "-d", f"--disassemble={function}", str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.splitlines()
    addresses = [(int(line.split(":")[0], 16), "call" in line) for line in listing if ":\t" in line]
    start = addresses[0][0]
    behind = next(addresses[number + 1][0] for number, (_, call) in enumerate(addresses) if call)
    return behind - start, addresses[-1][0] + 1 - start


@pytest.mark.parametrize("dwarf", ["-gdwarf-4", "-gdwarf-5"])
@pytest.mark.parametrize(("function", "line"), [("early", EARLY_CALL), ("late", LATE_CALL)])
def test_relocatable_object(tmp_path: Path, dwarf: str, function: str, line: int) -> None:
    """Both functions start at address 0 of their sections: they must not be mixed up."""
    path = build(tmp_path, dwarf)
    offset, size = call_offset(path, function)
    table = SymbolTable.of(path)
    assert table.has_lines
    found = table.resolve(Frame(function, offset, size, "unit"))
    assert found is not None
    assert (Path(found.file).name, found.line) == ("unit.c", line)


def test_linked_executable(tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text(
        "int early(int); int elsewhere(int n) { return n; } int main(void) { return early(1); }\n"
    )
    build(tmp_path, "-g")
    subprocess.run(
        ["gcc", "-g", "main.c", "unit.o", "-o", "program"], cwd=tmp_path, check=True, timeout=60
    )
    offset, size = call_offset(tmp_path / "program", "early")
    found = SymbolTable.of(tmp_path / "program").resolve(Frame("early", offset, size))
    assert found is not None
    assert found.line == EARLY_CALL


def test_partially_linked_like_a_module(tmp_path: Path) -> None:
    """A .ko is several objects linked with -r."""
    build(tmp_path, "-g")
    (tmp_path / "two.c").write_text("int elsewhere(int n)\n{\n\treturn n + 40;\n}\n")
    subprocess.run(["gcc", "-g", "-c", "two.c"], cwd=tmp_path, check=True, timeout=60)
    subprocess.run(
        ["ld", "-r", "unit.o", "two.o", "-o", "both.ko"], cwd=tmp_path, check=True, timeout=60
    )
    table = SymbolTable.of(tmp_path / "both.ko")
    found = table.resolve(Frame("elsewhere", 0, 0x20, exact=True))
    assert found is not None
    assert Path(found.file).name == "two.c"
    offset, size = call_offset(tmp_path / "both.ko", "late")
    late = table.resolve(Frame("late", offset, size))
    assert late is not None
    assert (Path(late.file).name, late.line) == ("unit.c", LATE_CALL)


def test_static_functions_of_one_name_are_told_apart_by_size(tmp_path: Path) -> None:
    for name, body in (("a", "\treturn n;\n"), ("b", "\tn *= 3;\n\tn ^= 9;\n\treturn n + 1;\n")):
        (tmp_path / f"{name}.c").write_text(
            f"__attribute__((noinline)) static int twin(int n)\n{{\n{body}}}\n"
            f"int use_{name}(int n)\n{{\n\treturn twin(n);\n}}\n"
        )
        subprocess.run(["gcc", "-g", "-c", f"{name}.c"], cwd=tmp_path, check=True, timeout=60)
    subprocess.run(["ld", "-r", "a.o", "b.o", "-o", "c.ko"], cwd=tmp_path, check=True, timeout=60)
    table = SymbolTable.of(tmp_path / "c.ko")
    sizes = sorted(symbol.size for symbol in table._symbols if symbol.name == "twin")
    small = table.resolve(Frame("twin", 1, sizes[0], exact=True))
    large = table.resolve(Frame("twin", 1, sizes[1], exact=True))
    assert small is not None
    assert large is not None
    assert (Path(small.file).name, Path(large.file).name) == ("a.c", "b.c")


def test_stripped_file_knows_no_lines(tmp_path: Path) -> None:
    path = build(tmp_path, "-g")
    subprocess.run(["strip", "--strip-debug", str(path)], check=True, timeout=60)
    table = SymbolTable.of(path)
    assert not table.has_lines
    assert table.resolve(Frame("early", 4, 0x20)) is None


def test_unknown_function_and_offset(tmp_path: Path) -> None:
    table = SymbolTable.of(build(tmp_path, "-g"))
    assert table.resolve(Frame("nobody", 4, 0x20)) is None
    assert table.resolve(Frame("early", 0x4000, 0x20)) is None


@pytest.mark.parametrize("content", [b"", b"not an object at all"])
def test_foreign_file_is_an_infrastructure_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ko"
    path.write_bytes(content)
    with pytest.raises(InfrastructureError, match="no symbols"):
        SymbolTable.of(path)


def test_annotate_only_known_frames(tmp_path: Path) -> None:
    path = build(tmp_path, "-g")
    offset, size = call_offset(path, "late")
    known = Frame("late", offset, size, "unit")
    found = resolve_frames([known, Frame("vfs_write", 1, 2)], {"unit": SymbolTable.of(path)})
    assert list(found) == [known]
    lines = annotate((f" {known}", " vfs_write+0x1/0x2", "Code: 00"), found)
    assert lines[0].endswith(f"unit.c:{LATE_CALL})")
    assert lines[1:] == (" vfs_write+0x1/0x2", "Code: 00")


def test_line_reads_as_editors_understand_it() -> None:
    assert str(Line("src/kmod/vcpu.c", 12)) == "src/kmod/vcpu.c:12"
