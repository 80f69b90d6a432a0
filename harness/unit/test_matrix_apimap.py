# SPDX-License-Identifier: MIT
"""Logs of real builds, shortened."""

from __future__ import annotations

from dunelab.matrix.apimap import drifts, find_breaks, place_in
from dunelab.matrix.model import Break, BuildReport

LOG_5_10 = """\
  CC [M]  /work/module/mmu.o
/work/module/mmu.c: In function 'ask_mm':
/work/module/mmu.c:311:15: error: implicit declaration of function 'vma_lookup'; did you mean \
'key_lookup'? [-Werror=implicit-function-declaration]
  311 |         vma = vma_lookup(mm, hva);
/work/module/mmu.c:311:13: error: assignment to 'struct vm_area_struct *' from 'int' makes \
pointer from integer without a cast [-Werror=int-conversion]
/work/module/vmx.c:134:26: error: 'X86_FEATURE_SGX' undeclared (first use in this function)
/work/module/vmx.c:140:26: error: 'X86_FEATURE_SGX' undeclared (first use in this function)
make[2]: *** [/usr/src/linux-headers-5.10.0-32-common/scripts/Makefile.build:291: x] Error 1
"""
LOG_7_3 = """\
ERROR: modpost: dune.ko: module uses symbol 'cr4_update_irqsoff' from namespace \
'module:kvm,kvm-amd,kvm-intel', but does not import it.
ERROR: modpost: "no_such" [/work/module/dune.ko] undefined!
"""
SOURCES = (("cpu.c", "int a;\n"), ("vmx.c", "/*\n*/\n\tcr4_update_irqsoff(1, 0);\n"))


def nowhere(_symbol: str) -> str:
    return ""


def one(line: str) -> Break:
    found = find_breaks(line, nowhere)
    assert len(found) == 1, found
    return found[0]


def test_symbols_with_their_places_each_once() -> None:
    found = find_breaks(LOG_5_10, nowhere)
    assert [(item.kind, item.name, item.place) for item in found] == [
        ("symbol", "vma_lookup", "mmu.c:311"),
        ("symbol", "X86_FEATURE_SGX", "vmx.c:134"),
    ]


def test_exports_are_looked_up_in_the_sources() -> None:
    found = find_breaks(LOG_7_3, place_in(SOURCES))
    assert [(item.kind, item.name, item.place) for item in found] == [
        ("export", "cr4_update_irqsoff", "vmx.c:3"),
        ("export", "no_such", ""),
    ]


def test_kinds() -> None:
    too_few = "/work/module/main.c:7:1: error: too few arguments to function 'class_create'"
    assert one(too_few) == Break(
        "signature", "class_create", "main.c:7", "too few arguments to function 'class_create'"
    )
    passing = "mmu.c:9:3: error: passing argument 2 of 'f' from incompatible pointer type"
    assert (one(passing).kind, one(passing).name) == ("signature", "f")
    member = "x.c:1:1: error: 'struct vm_area_struct' has no member named 'vm_next'"
    assert (one(member).kind, one(member).name) == ("member", "vm_next")
    header = "compat.h:40:10: fatal error: linux/entry-kvm.h: No such file or directory"
    assert (one(header).kind, one(header).name) == ("header", "linux/entry-kvm.h")
    objtool = "dune.o: warning: objtool: dune_vmx_enter+0x12: unreachable instruction"
    assert (one(objtool).kind, one(objtool).name) == ("objtool", "dune_vmx_enter")
    warning = "x.c:3:4: warning: unused variable 'a' [-Wunused-variable]"
    assert (one(warning).kind, one(warning).place) == ("other", "x.c:3")


def test_harmless_lines_are_no_breaks() -> None:
    assert find_breaks("warning: the compiler differs from the one used to build", nowhere) == ()
    assert find_breaks("  CC [M]  errors.o\nmake: Leaving directory\n", nowhere) == ()


def test_the_map_names_the_first_kernel() -> None:
    shared = Break("symbol", "vma_lookup", "mmu.c:1", "")
    builds = [
        BuildReport("k5.10", "", 1.0, (shared,), failure="x"),
        BuildReport("k5.10-rt", "", 1.0, (shared, Break("member", "m", "a.c:1", "")), failure="x"),
        BuildReport("k6.1", "", 1.0),
    ]
    found = drifts(builds)
    assert [(item.found.name, item.kernels) for item in found] == [
        ("vma_lookup", ("k5.10", "k5.10-rt")),
        ("m", ("k5.10-rt",)),
    ]
