# SPDX-License-Identifier: MIT
"""Fidelity: how suites' output is read, what counts as a difference, what is told."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import jsonschema
import pytest
from fidelity_fakes import CPYTHON, SUITES, end, events, pair, start
from processes import wait_gone

from dunelab.cli import fidelity as command
from dunelab.errors import InfrastructureError
from dunelab.fidelity import report
from dunelab.fidelity.catalogue import suite_names
from dunelab.fidelity.model import WHOLE, End, Test, differences
from dunelab.fidelity.programs import Compiled, group
from dunelab.fidelity.suites import (
    GUEST_FOLDER,
    Ended,
    Unit,
    guest_file,
    read_classes,
    read_events,
    read_program,
    read_stressor,
    select,
)
from dunelab.images.store import Store, find_repo_root
from dunelab.results.report import make_header

# -- reading ---------------------------------------------------------------------------


def test_events_give_each_tests_end() -> None:
    tests, running = read_events(
        events(start("a"), end("a", "ok"), start("b"), end("b", "skipped", "no tty"))
    )
    assert tests == (Test("a", End.OK), Test("b", End.SKIPPED, "no tty"))
    assert running is None


def test_a_failed_subtest_fails_its_test() -> None:
    tests, _running = read_events(
        events(start("a"), end("a", "failed", "i=1"), end("a", "failed", "i=2"), end("a", "ok"))
    )
    assert tests == (Test("a", End.FAILED, "i=1"),)


def test_a_test_without_end_hung_or_crashed_with_its_process() -> None:
    text = events(start("a"), end("a", "ok"), start("b")) + '{"end": "b", "outc'
    hung = CPYTHON.read(Ended(137, text, "last words"))
    assert hung == (
        Test("a", End.OK),
        Test("b", End.HUNG, "last words"),
        Test(WHOLE, End.HUNG, "in b"),
    )
    crashed = CPYTHON.read(Ended(139, text, "x"))
    assert [t.end for t in crashed] == [End.OK, End.CRASHED, End.CRASHED]
    assert "signal 11" in crashed[1].why


@pytest.mark.parametrize("status", [0, 2, 3])
def test_failed_tests_do_not_fail_the_module_again(status: int) -> None:
    tests = CPYTHON.read(Ended(status, events(start("a"), end("a", "failed", "x")), ""))
    assert tests[-1] == Test(WHOLE, End.OK)


def test_the_runner_tells_what_unittest_saw(tmp_path: Path) -> None:
    """With a package that looks like CPython's, since this one may have no tests."""
    package = tmp_path / "test" / "libregrtest"
    package.mkdir(parents=True)
    (tmp_path / "test" / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package / "testresult.py").write_text(
        "import unittest\nclass RegressionTestResult(unittest.TextTestResult): pass\n"
    )
    (package / "main.py").write_text(
        "import sys, unittest\n"
        "from test.libregrtest import testresult\n"
        "def main():\n"
        "    suite = unittest.defaultTestLoader.loadTestsFromName(sys.argv[-1])\n"
        "    unittest.TextTestRunner(resultclass=testresult.RegressionTestResult).run(suite)\n"
    )
    (tmp_path / "test" / "test_some.py").write_text(
        "import os, unittest\n"
        "class T(unittest.TestCase):\n"
        "    def test_a(self): pass\n"
        "    def test_b(self): self.fail('because')\n"
        "    def test_c(self): self.skipTest('not here')\n"
        "    def test_d(self):\n"
        "        for i in range(3):\n"
        "            with self.subTest(i=i): self.assertNotEqual(i, 1)\n"
        "    @unittest.expectedFailure\n"
        "    def test_e(self): self.fail()\n"
        "    def test_f(self): self.assertNotIn('DUNELAB_EVENTS', os.environ)\n"
        "    def test_g(self):\n"
        "        if os.fork() == 0: self.addCleanup(os._exit, 0); self.fail('a child')\n"
        "        os.wait()\n"
    )
    said = tmp_path / "events"
    said.touch()
    subprocess.run(
        ["python3", guest_file("regrtest.py"), "test.test_some"],
        env={"PYTHONPATH": str(tmp_path), "DUNELAB_EVENTS": str(said), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    tests, running = read_events(said.read_text())
    assert running is None
    assert {t.name.rpartition(".")[2]: str(t.end) for t in tests} == {
        "test_a": "ok",
        "test_b": "failed",
        "test_c": "skipped",
        "test_d": "failed",
        "test_e": "expected failure",
        "test_f": "ok",
        "test_g": "ok",
    }
    assert "because" in next(t.why for t in tests if t.name.endswith("test_b"))


SUMMARY = """\
stress-ng: info:  [12] setting to a 3 secs run per stressor
stress-ng: info:  [12] skipped: {skipped}
stress-ng: info:  [12] passed: 1: kill (1)
stress-ng: info:  [12] failed: 0
"""


@pytest.mark.parametrize(
    ("status", "skipped", "expected"),
    [
        (0, "0", End.OK),
        (0, "1: kill (1)", End.SKIPPED),
        (2, "0", End.FAILED),
        (3, "0", End.SKIPPED),
        (4, "0", End.SKIPPED),
        (7, "0", End.OK),
        (137, "0", End.HUNG),
        (134, "0", End.CRASHED),
    ],
)
def test_a_stressors_end(status: int, skipped: str, expected: End) -> None:
    assert read_stressor(Ended(status, "", SUMMARY.format(skipped=skipped))).end is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, End.OK), (77, End.SKIPPED), (1, End.FAILED), (134, End.CRASHED), (137, End.HUNG)],
)
def test_a_programs_end(status: int, expected: End) -> None:
    assert read_program(Ended(status, "", "assertion failed")).end is expected


def test_programs_are_run_one_by_one_and_told(tmp_path: Path) -> None:
    """What each leaves running is killed before the next one starts."""
    bodies = {
        "good": "sleep 1000 & echo $! >left",
        "bad": "echo because; exit 1",
        "not-here": "exit 5",
        "said": "echo 'ok 1 - said # SKIP no'",
        "not-asked": "echo 'ok 1 - not-asked # SKIP no tty'; exit 7",
        "some-asked": "printf '%s\\n' 'ok 1 - one # SKIP no' 'not ok 2 - other'; exit 1",
        "dies": "kill -SEGV $$",
        "long": "sleep 1000",
        "many": "printf '%s\\n' 'ok 1 a.b' 'not ok 2 a.c' 'ok 3 a.d # SKIP no' 'ok 4 2 s'; exit 1",
    }
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    said = tmp_path / "events"
    subprocess.run(
        ["python3", guest_file("programs.py"), "2", f"env -C {tmp_path} ./{{}}", *bodies],
        env={"DUNELAB_EVENTS": str(said), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    tests = SUITES["posix"].read(Ended(0, said.read_text(), ""))
    assert {test.name: str(test.end) for test in tests} == {
        "good": "ok",
        "bad": "failed",
        "not-here": "skipped",
        "said": "skipped",
        "not-asked": "skipped",
        "some-asked": "failed",
        "dies": "crashed",
        "long": "hung",
        "many": "failed",
        "many:a.b": "ok",
        "many:a.c": "failed",
        "many:a.d": "skipped",
        WHOLE: "ok",
    }
    assert next(test.why for test in tests if test.name == "bad") == "status 1\nbecause\n"
    assert wait_gone(int((tmp_path / "left").read_text()), seconds=10)


def test_tests_in_groups_by_name_and_number() -> None:
    names = ["raise/10-1", "raise/2-1", "kill/1-1"]
    assert group(names, "/") == {"kill": ["kill/1-1"], "raise": ["raise/2-1", "raise/10-1"]}


@pytest.mark.parametrize("listed", [True, False])
def test_units_of_an_archive(tmp_path: Path, listed: bool) -> None:
    """The tests are its files, or the lines of its list."""
    content = {"list": b"fs_a\nfs_b\nfs_slow\ntcp_a\n", "runner": b""} if listed else {"fs/a": b""}
    archive = tmp_path / "some.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))

    class FakeStore:
        def suite_programs(self, name: str) -> Path:
            return archive

    data = {
        "usual": ["fs"],
        "seconds": 9,
        "each_seconds": 3,
        "command": "FOLDER/x {}",
        "left_out": ["*_slow"],
        "groups_end_at": "_" if listed else "/",
    }
    suite = Compiled("some", data, cast(Store, FakeStore()))
    units = suite.units(lambda text: "")
    assert [(u.name, u.usual) for u in units] == [("fs", True), ("tcp", False)][: 1 + listed]
    words = suite.command(units[0])
    assert words[3:] == (f"{GUEST_FOLDER}/some/x {{}}", *(["fs_a", "fs_b"] if listed else ["fs/a"]))


def test_every_suite_has_its_data_and_the_other_way_round() -> None:
    assert tuple(SUITES) == suite_names()
    gnulib = SUITES["gnulib"].units(lambda text: "")
    assert [u.name for u in gnulib if u.usual]
    assert len({u.name for u in gnulib}) == len(gnulib) > 100


def test_stressors_of_a_class() -> None:
    text = "class 'signal' stressors: kill sigabrt\nclass 'os' stressors: access\n"
    assert read_classes(text) == {"signal": ("kill", "sigabrt"), "os": ("access",)}


def test_units_come_from_the_guest_and_a_missing_one_is_an_error() -> None:
    names = [*(f"{n} {n}" for n in command_names()), "test_asyncio test_asyncio.test_events"]
    units = CPYTHON.units(lambda text: "\n".join(names))
    assert {u.name for u in units} >= {"test_signal", "test_asyncio.test_events"}
    with pytest.raises(InfrastructureError, match="test_signal"):
        CPYTHON.units(lambda text: "\n".join(n for n in names if "test_signal" not in n))


def command_names() -> list[str]:
    asked: list[str] = []

    def ask(text: str) -> str:
        asked.append(text)
        return ""

    with contextlib.suppress(InfrastructureError):
        CPYTHON.units(ask)
    return [w for w in asked[0].split() if w.startswith("test_") and w != "test_asyncio"]


def test_selection() -> None:
    units = (Unit("s", "a", 1, True), Unit("s", "b", 1, False))
    assert [u.name for u in select(units, [], False)] == ["a"]
    assert [u.name for u in select(units, [], True)] == ["a", "b"]
    assert [u.name for u in select(units, ["b*"], False)] == ["b"]


# -- comparing -------------------------------------------------------------------------


def test_what_ends_alike_is_no_difference() -> None:
    assert differences([pair({"a": End.OK, "b": End.FAILED}, {"a": End.OK, "b": End.FAILED})]) == ()


def test_a_steady_difference_has_both_ends() -> None:
    (found,) = differences([pair({"a": End.OK}, {"a": End.FAILED})] * 2)
    assert (found.test, found.native.end, found.dune.end) == ("a", End.OK, End.FAILED)
    assert found.dune.why == "why"
    assert found.steady


def test_a_test_that_one_side_does_not_have_is_a_difference() -> None:
    (found,) = differences([pair({"a": End.OK, "b": End.OK}, {"a": End.OK})])
    assert found.dune.end is End.ABSENT
    (found,) = differences([pair({"a": End.OK}, {"a": End.OK, "b": End.OK})])
    assert found.native.end is End.ABSENT


def test_what_fails_now_and_then_natively_too_is_none() -> None:
    tries = [
        pair({"a": End.OK}, {"a": End.FAILED}),
        pair({"a": End.FAILED}, {"a": End.OK}),
    ]
    assert differences(tries) == ()


def test_what_fails_now_and_then_in_dune_mode_only_is_an_unsteady_one() -> None:
    tries = [pair({"a": End.OK}, {"a": End.FAILED}), pair({"a": End.OK}, {"a": End.OK})]
    (found,) = differences(tries)
    assert not found.steady
    assert found.dune.end is End.FAILED


def test_the_document_fits_its_schema(tmp_path: Path) -> None:
    tries = ((pair({"a": End.OK, WHOLE: End.OK}, {"a": End.HUNG, WHOLE: End.HUNG}),),)
    header = make_header(datetime.now(UTC).isoformat(), 1.0, ["--all"], find_repo_root())
    comparison = report.Comparison(header, None, tries)
    report.write(comparison, tmp_path / "f.json")
    document = json.loads((tmp_path / "f.json").read_text())
    assert document["units"][0]["native"]["counts"] == {"ok": 1}
    assert [d["test"] for d in document["differences"]] == ["a", WHOLE]
    document["differences"][0]["native"]["end"] = "fine"
    schema = json.loads(Path(report.__file__).with_name("schema.json").read_text())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, schema)


def test_the_command_explains_itself() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--only", "test_x", "--suite", "cpython", "-n", "2"])
    assert args.image == "full"
    assert args.workers == 2
