# SPDX-License-Identifier: MIT
from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dunelab.errors import InfrastructureError
from dunelab.images import lost
from dunelab.images.archive import Package
from dunelab.images.exports import Drift, drift, exports, imports
from dunelab.images.kernels import KernelEntry

# As EXPORT_SYMBOL, EXPORT_SYMBOL_GPL and EXPORT_SYMBOL_FOR_MODULES leave it in a vmlinux.
KERNEL = """
.macro export name, table, space
.section __ksymtab_strings, "a"
1: .asciz "\\name"
2: .asciz "\\space"
.section \\table, "a"
.long \\name - ., 1b - ., 2b - .
.text
\\name: ret
.endm
export printk, __ksymtab, ""
export mmput, __ksymtab_gpl, ""
export cr4_update_irqsoff, __ksymtab_gpl, "module:kvm,kvm-amd"
export crypto, __ksymtab_gpl, "CRYPTO"
"""
MODULE = "extern int printk(void), mmput(void);\nint init(void) { return printk() + mmput(); }\n"


def build(folder: Path, name: str, text: str, *words: str) -> bytes:
    source, made = folder / name, folder / "made"
    source.write_text(text)
    subprocess.run(["gcc", *words, "-o", made, source], check=True, timeout=60)
    return made.read_bytes()


def test_exports_with_their_namespaces(tmp_path: Path) -> None:
    kernel = build(tmp_path, "k.S", KERNEL, "-nostdlib", "-static", "-Wl,-e,printk")
    assert exports(kernel) == {
        "printk": "",
        "mmput": "",
        "cr4_update_irqsoff": "module:kvm,kvm-amd",
        "crypto": "CRYPTO",
    }


def test_imports_of_a_module(tmp_path: Path) -> None:
    module = build(tmp_path, "m.c", MODULE, "-c", "-fno-pic", "-mcmodel=kernel")
    assert imports(module) == ("mmput", "printk")


def test_what_is_no_kernel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="not an ELF file"):
        exports(b"MZ")
    program = build(tmp_path, "m.c", "int main(void) { return 0; }\n")
    with pytest.raises(InfrastructureError, match="no table of exported symbols"):
        exports(program)


def test_drift() -> None:
    given = {"printk": "", "cr4_update_irqsoff": "module:kvm,kvm-amd", "crypto": "CRYPTO"}
    found = drift(["printk", "gone", "cr4_update_irqsoff", "printk"], given)
    assert found == Drift(3, ("gone",), ("cr4_update_irqsoff",))
    assert not found.none
    assert drift(["printk"], given).none


CONTROL = {
    "linux-image-6.19.9+deb13-amd64": ("6.19.9-1", "linux-binary-6.19.9+deb13-amd64, kmod"),
    "linux-image-6.19.14+deb13-amd64": ("6.19.14-1", "linux-binary-6.19.14+deb13-amd64 (= 1)"),
    "linux-image-6.19.15+deb13-cloud-amd64": ("6.19.15-1", ""),
    "linux-binary-6.19.14+deb13-amd64": ("6.19.14-1", ""),
}


class Archive:
    def names(self, prefix: str) -> list[str]:
        return [name for name in CONTROL if name.startswith(prefix)]

    def package(self, name: str) -> Package:
        return Package(name, CONTROL[name][0], "0" * 64, 1, "")


def test_the_newest_image_of_a_series() -> None:
    def control(name: str) -> dict[str, str]:
        return {"Depends": CONTROL[name][1]}

    image = lost.newest_image(Archive(), control, "6.19")
    assert image.release == "6.19.14+deb13-amd64"
    assert [package.name.partition("-6")[0] for package in image.packages] == [
        "linux-image",
        "linux-binary",
    ]
    with pytest.raises(InfrastructureError, match=r"no image of 6\.20"):
        lost.newest_image(Archive(), control, "6.20")


def test_the_nearest_kernels_with_headers() -> None:
    def entry(name: str, series: str, flavour: str = "amd64") -> KernelEntry:
        return KernelEntry(name, "s", flavour, series, None)

    entries = [
        entry("a", "6.1"),
        entry("b", "6.12"),
        entry("c", "6.12", "rt-amd64"),
        entry("d", "7.2"),
        entry("e", "7.3"),
    ]
    assert [item.id for item in lost.neighbours(entries, "6.19")] == ["b", "d"]
    assert [item.id for item in lost.neighbours(entries, "7.9")] == ["e"]
