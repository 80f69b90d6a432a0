# SPDX-License-Identifier: MIT
"""libdune as a library: what is built, installed and documented.  No guest."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.dune.lab import DuneLab
from dunelab.images.builder import COMPILER, WORK
from dunelab.images.process import missing_tool

REPO = Path(__file__).resolve().parents[2]
CXX = "g++-14"
SECONDS = 300.0
CHECKED = (
    *("static", "static-pie", "no-pie", "pie", "shared", "cxx", "cxx-shared"),
    *("symbols", "manual pages"),
)
LINKED = {
    "static": ("-static", "-no-pie"),
    "static-pie": ("-static-pie",),
    "no-pie": ("-no-pie", "-fno-pie"),
    "pie": ("-pie", "-fPIE"),
    # libdune.a is put away for this one.
    "shared": (),
}


def in_builder(lab: DuneLab, log: Path, out: Path, *argv: str, **env: str) -> str:
    """Run a command on this tree in the builder root; what it printed."""
    lab.store.builder.run(
        argv,
        binds={REPO / "src": f"{WORK}/src", out: f"{WORK}/out"},
        env=env,
        log=log,
        deadline=Deadline.after(SECONDS, argv[0]),
        what=" ".join(argv),
    )
    return log.read_text(encoding="utf-8")


@pytest.fixture
def installed(lab: DuneLab, tmp_path: Path) -> Path:
    """A folder with libdune installed below usr/, and its build beside it."""
    out = tmp_path / "out"
    out.mkdir()
    make = ("make", "-s", "-j2", "-C", f"{WORK}/src/libdune", f"O={WORK}/out/build")
    tools = (f"CC={COMPILER}", f"CXX={CXX}")
    in_builder(lab, tmp_path / "make.log", out, *make, *tools, "check", "install", "PREFIX=/usr",
               f"DESTDIR={WORK}/out")  # fmt: skip
    return out


def test_library(lab: DuneLab, installed: Path, tmp_path: Path) -> None:
    """It links in every way; each public name has its page; libdune.pc says how to use it."""
    said = (tmp_path / "make.log").read_text(encoding="utf-8").splitlines()
    assert [line for line in said if line.startswith("ok ")] == [f"ok {name}" for name in CHECKED]
    for page in ("dune_init", "load_cr3", "libdune-general"):
        assert (installed / f"usr/share/man/man3/{page}.3").is_file()

    compiling, linking = pkg_config(installed, "--cflags"), pkg_config(installed, "--libs")
    archive = installed / "usr/lib/libdune.a"
    for way, flags in LINKED.items():
        if way == "shared":
            archive.unlink()
        for compiler, language in ((COMPILER, "c"), (CXX, "c++")):
            name = f"{way}-{language}"
            source = (f"-x{language}", f"{WORK}/src/libdune/check/api.c", "-xnone")
            in_builder(lab, tmp_path / f"{name}.log", installed,
                       compiler, *flags, *compiling, *source, *linking, "-Wall", "-Werror",
                       "-o", f"{WORK}/out/{name}")  # fmt: skip
            said_now = in_builder(lab, tmp_path / f"{name}-run.log", installed,
                                  f"{WORK}/out/{name}", LD_LIBRARY_PATH=f"{WORK}/out/usr/lib",
                                  )  # fmt: skip
            assert said_now.splitlines()[-1] == "dune_printf", name


def test_manual_pages_of_libwedge(lab: DuneLab, tmp_path: Path) -> None:
    """Each public function is on a page, and has one that refers to it."""
    in_builder(lab, tmp_path / "make.log", tmp_path,
               "make", "-C", f"{WORK}/src/apps", f"O={WORK}/out", "man")  # fmt: skip
    header = (REPO / "src/apps/wedge/wedge.h").read_text(encoding="utf-8")
    names = re.findall(r"^[a-z][a-z_ ]* \*?([a-z_]+)\([^)]", header, re.MULTILINE)
    assert len(names) > 20
    for name in names:
        page = (tmp_path / f"man/{name}.3").read_text(encoding="utf-8")
        referred = page.removeprefix(".so man3/").strip()
        described = (tmp_path / "man" / referred).read_text(encoding="utf-8")
        assert f".SS {name} " in described or f"{name}," in described, name
    assert (tmp_path / "man/libwedge.3").is_file()


def pkg_config(installed: Path, what: str) -> list[str]:
    """The words that pkg-config gives a program built in the builder root."""
    try:
        done = subprocess.run(
            ["pkg-config", what, "libdune"],
            env={
                "PATH": "/usr/bin:/bin",
                "PKG_CONFIG_LIBDIR": str(installed / "usr/lib/pkgconfig"),
                "PKG_CONFIG_SYSROOT_DIR": f"{WORK}/out",
                "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1",
                "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
            },
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except FileNotFoundError:
        raise missing_tool("pkg-config", "pkgconf") from None
    return done.stdout.split()
