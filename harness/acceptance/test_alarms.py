# SPDX-License-Identifier: MIT
"""The harness proves that its own alarms ring.

A pytest run of its own sets them off on real guests; here its results are
read.  All on TCG: how a guest dies is not a matter of the vendor.
"""

from __future__ import annotations

import os
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_commands import REPOSITORY, Finished, run_on_host

from dunelab.results.report import read_results
from dunelab.results.schema import Outcome, TestResult
from dunelab.spec import Cell

pytestmark = [
    pytest.mark.guest_group("alarms"),
    pytest.mark.only_engines("tcg"),
    pytest.mark.thorough,
]

DATA = Path(__file__).resolve().parent / "data"
NESTED_SECONDS = 900.0
PROGRAMS = {
    "crashes": "echo 'KTAP version 1'\necho 1..2\necho 'ok 1 - so far'\nkill -SEGV $$\n",
    "hangs": "echo 'KTAP version 1'\necho 1..1\nsleep 1000\n",
    "says_nothing": "exit 0\n",
    "lies": "echo 'KTAP version 1'\necho 1..1\necho 'ok 1 - fine'\nexit 3\n",
    "outside": "echo 'KTAP version 1'\necho 1..1\necho '# fact: cpl=3'\n"
    "echo '# fact: exits=0'\necho 'ok 1 - fine'\n",
}


@dataclass(frozen=True)
class Nested:
    """The nested run: what it printed and what it recorded."""

    folder: Path
    finished: Finished

    def result(self, name: str) -> TestResult:
        """The result of the test whose id holds ``name``."""
        run = read_results(self.folder / "results" / "results.json")
        found = [r for r in run.results if name in r.test and not r.test.startswith("after ")]
        assert len(found) == 1, f"{name}: {found}\n{self.finished.stdout[-4000:]}"
        return found[0]


def write_nested(folder: Path) -> None:
    """Lay out the nested run's folder."""
    shutil.copy(DATA / "alarms_conftest.py", folder / "conftest.py")
    shutil.copy(DATA / "alarms_nested.py", folder / "test_nested.py")
    (folder / "repository.txt").write_text(str(REPOSITORY))
    (folder / "pytest.ini").write_text("[pytest]\n")
    for name, text in PROGRAMS.items():
        source = folder / "tests" / "behaviour" / f"{name}.c"
        built = folder / "programs" / "behaviour" / name
        for path in (source, built):
            path.parent.mkdir(parents=True, exist_ok=True)
        source.write_text("/* dunelab: timeout=8 */\n")
        built.write_text(f"#!/bin/sh\n{text}")


def run_nested(folder: Path, cell: Cell, *words: str, env: dict[str, str] | None = None) -> Nested:
    """Run pytest there, as a user would.  Evidence it keeps goes with the folder."""
    runtime = folder / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    finished = run_on_host(
        sys.executable,
        *("-m", "pytest", "-p", "no:cacheprovider", "-rA", f"--rootdir={folder}"),
        *("-c", str(folder / "pytest.ini"), "--engine", cell.engine, "--kernel", cell.kernel),
        *("--results", str(folder / "results"), *words, str(folder)),
        seconds=NESTED_SECONDS,
        env={"XDG_RUNTIME_DIR": str(runtime), **(env or {})},
    )
    return Nested(folder, finished)


@pytest.fixture(scope="module")
def runs() -> dict[Cell, Nested]:
    """One nested run per cell serves all tests of this file."""
    return {}


@pytest.fixture
def nested(
    runs: dict[Cell, Nested],
    cell: Cell,
    tmp_path_factory: pytest.TempPathFactory,
    resting_guests: None,
) -> Nested:
    """The nested run of this cell, made when first asked for."""
    if cell not in runs:
        folder = tmp_path_factory.mktemp("alarms")
        write_nested(folder)
        runs[cell] = run_nested(folder, cell)
    return runs[cell]


def test_panic(nested: Nested) -> None:
    result = nested.result("::test_panic[")
    assert result.outcome is Outcome.GUEST_DIED
    assert "guest died" in result.message
    assert "Kernel panic - not syncing" in result.message
    # Symbols of a module are resolved down to the line.
    assert "alarm_panic.c:" in result.message
    assert "during test_nested.py::test_panic" in result.message


def test_oops_the_guest_survives(nested: Nested) -> None:
    result = nested.result("::test_oops_but_lives[")
    assert result.outcome is Outcome.FAILED
    assert "kernel splat: BUG: kernel NULL pointer dereference" in result.message
    assert "alarm_oops.c:" in result.message


def test_bug_the_guest_survives(nested: Nested) -> None:
    result = nested.result("::test_bug_but_lives[")
    assert result.outcome is Outcome.FAILED
    assert "kernel BUG at" in result.message


def test_warning(nested: Nested) -> None:
    result = nested.result("::test_warning[")
    assert result.outcome is Outcome.FAILED
    assert "kernel splat: WARNING: " in result.message
    assert "alarm_warn.c:" in result.message


def test_hang(nested: Nested) -> None:
    result = nested.result("::test_hang[")
    assert result.outcome is Outcome.GUEST_DIED
    assert "hung" in result.message
    assert result.seconds < 120


def test_module_that_refuses_to_load(nested: Nested) -> None:
    result = nested.result("::test_refused_module[")
    assert result.outcome is Outcome.FAILED
    assert "refusing to load, on request" in result.message
    assert "insmod" in result.message


def test_dune_refuses_a_cpu_without_svm(nested: Nested) -> None:
    result = nested.result("::test_dune_refuses_a_cpu_without_svm[")
    assert result.outcome is Outcome.FAILED
    assert "insmod dune.ko failed" in result.message
    assert "dune: this CPU offers neither VT-x nor SVM" in result.message


def test_panic_on_the_way_up(nested: Nested) -> None:
    result = nested.result("::test_panic_on_the_way_up[")
    assert result.outcome is Outcome.GUEST_DIED
    assert "Kernel panic - not syncing" in result.message


def test_guest_that_never_boots(nested: Nested) -> None:
    result = nested.result("::test_never_boots[")
    assert result.outcome is Outcome.INFRASTRUCTURE
    assert "infrastructure: " in result.message
    assert "did not boot" in result.message
    assert "last console lines" in result.message


@pytest.mark.parametrize(
    ("name", "outcome", "text"),
    [
        ("crashes", Outcome.FAILED, "killed by SIGSEGV"),
        ("hangs", Outcome.FAILED, "did not end within"),
        ("says_nothing", Outcome.FAILED, "no KTAP output"),
        ("lies", Outcome.FAILED, "exit status 3"),
        ("outside", Outcome.FAILED, "ran at privilege level 3"),
    ],
)
def test_programs(nested: Nested, name: str, outcome: Outcome, text: str) -> None:
    result = nested.result(f"-{name}]")
    assert result.outcome is outcome
    assert text in result.message


def test_a_good_test_among_the_alarms_passes(nested: Nested) -> None:
    assert nested.result("::test_good_to_the_end[").outcome is Outcome.PASSED


def test_evidence_is_kept(nested: Nested) -> None:
    folder = nested.folder / "results" / str(nested.result("::test_panic[").log_folder)
    assert "Kernel panic" in (folder / "console.txt").read_text()
    assert (folder / "engine-command.txt").read_text().strip()


def test_junit_tells_errors_from_failures(nested: Nested) -> None:
    junit = ElementTree.parse(nested.folder / "results" / "junit.xml")
    errors = [case for case in junit.iter("testcase") if case.find("error") is not None]
    names = {str(case.attrib["name"]).partition("[")[0] for case in errors}
    assert "test_never_boots" in names
    assert "test_oops_but_lives" not in names


def test_nothing_is_left_running(nested: Nested) -> None:
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes()
        except OSError:
            continue
        assert str(nested.folder).encode() not in words, words


def test_engine_that_is_missing(cell: Cell, tmp_path: Path, resting_guests: None) -> None:
    """A PATH without QEMU: an error with the next command, before any test ran."""
    write_nested(tmp_path)
    hidden = tmp_path / "bin"
    hidden.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for tool in Path(folder).glob("*") if folder else ():
            link = hidden / tool.name
            if not tool.name.startswith("qemu-system") and not link.exists():
                link.symlink_to(tool)
    run = run_nested(tmp_path, cell, env={"PATH": str(hidden)})
    assert run.finished.status == pytest.ExitCode.USAGE_ERROR
    assert "qemu-system-x86_64 is not installed" in run.finished.stderr
    assert "next:" in run.finished.stderr
    assert not (tmp_path / "results" / "results.json").exists()
