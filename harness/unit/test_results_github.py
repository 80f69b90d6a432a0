# SPDX-License-Identifier: MIT
from __future__ import annotations

from pathlib import Path

import pytest

from dunelab.matrix.model import Break, BuildReport
from dunelab.matrix.report import map_annotations
from dunelab.pytest_support.place import line_of_failure
from dunelab.results import github
from dunelab.results.github import Annotation
from dunelab.results.schema import Outcome, TestResult

SPLAT = """kernel splat: BUG: oh
bug: BUG: oh (during t.py::test_a)
 RIP: 0010:schedule+0x1/0x20
 vcpu_run+0x12/0x34 [dune]  (/work/module/vcpu.c:77)
 other+0x1/0x2 [dune]  (/work/module/svm.c:9)"""


def result(outcome: Outcome, message: str = "why", **words: str) -> TestResult:
    return TestResult("a/t.py::test_a[tcg-amd-k7]", outcome, 1.0, message, **words)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("src/kmod/vcpu.c", "src/kmod/svm.c", "tests/modules/alarm_bug/alarm_bug.c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_an_annotation_is_one_line() -> None:
    text = str(Annotation("a,b.c", 3, "50%: x, y", "one\r\ntwo: 5 %, done"))
    assert text == ("::error file=a%2Cb.c,line=3,title=50%25%3A x%2C y::one%0D%0Atwo: 5 %25, done")
    assert github.lines([Annotation("a", 1, "t", "x")] * 2).count("\n") == 2


def test_a_long_message_is_cut() -> None:
    assert len(str(Annotation("a", 1, "t", "x" * 100_000))) < 5000


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [({}, False), ({"GITHUB_ACTIONS": "true"}, True), ({"GITHUB_ACTIONS": "false"}, False)],
)
def test_only_github_gets_them(environment: dict[str, str], wanted: bool) -> None:
    assert github.wanted(environment) is wanted


def test_a_failure_is_shown_at_its_place(tree: Path) -> None:
    (found,) = github.of_results([result(Outcome.FAILED, place="tests/behaviour/fork.c:12")], tree)
    assert (found.file, found.line, found.title) == (
        "tests/behaviour/fork.c",
        12,
        "t.py::test_a[tcg-amd-k7]",
    )


def test_without_a_place_it_is_the_tests_file(tree: Path) -> None:
    (found,) = github.of_results([result(Outcome.INFRASTRUCTURE)], tree)
    assert (found.file, found.line) == ("a/t.py", 1)


def test_a_splat_is_shown_at_the_modules_line_and_first(tree: Path) -> None:
    results = [
        result(Outcome.FAILED, place="a/t.py:5"),
        result(Outcome.GUEST_DIED, SPLAT, place="a/t.py:5"),
    ]
    places = [(found.file, found.line) for found in github.of_results(results, tree)]
    assert places == [("src/kmod/vcpu.c", 77), ("a/t.py", 5)]


def test_a_splat_of_another_module_is_found_too(tree: Path) -> None:
    text = "x\n f+0x1/0x2 [alarm_bug]  (/work/module/alarm_bug.c:3)\n"
    assert github.splat_place(text, tree) == ("tests/modules/alarm_bug/alarm_bug.c", 3)
    assert github.splat_place("x (kernel/fork.c:3)\n  (/work/module/gone.c:3)", tree) is None


def test_what_ended_well_says_nothing(tree: Path) -> None:
    assert not github.of_results([result(Outcome.PASSED, ""), result(Outcome.SKIPPED)], tree)


def test_the_api_map_is_shown_in_the_module() -> None:
    item = Break("symbol", "vma_lookup", "mmu.c:311", "implicit declaration")
    other = Break("other", "odd", "", "modpost: odd")
    builds = [
        BuildReport("k5", "5.10", 1.0, (item,), failure="no"),
        BuildReport("k6", "6.1", 1.0, (item, other), failure="no"),
    ]
    lines = [str(found) for found in map_annotations(builds, "src/kmod")]
    assert lines == [
        "::error file=src/kmod/mmu.c,line=311,title=symbol vma_lookup%3A k5%2C k6"
        "::implicit declaration",
        "::error file=src/kmod/Kbuild,line=1,title=other odd%3A k6::modpost: odd",
    ]


SOURCE = """/* SPDX */
static const char *names[] = { "%s", "other" };
	ktap_ok(a, "four pages were read");
	ktap_eq(b, 3, "page %u of %-3zu is \\"there\\"", i, n);
"""


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("behaviour/x: not ok four pages were read", 3),
        ("behaviour/x: run 2: not ok four pages were read: got 3, want 4", 3),
        ('behaviour/x: killed by SIGSEGV (status 139)\nnot ok page 3 of 9 is \\"there\\"', 4),
        ("behaviour/x: not ok four pages were read twice", 1),
        ("behaviour/x: killed by SIGSEGV (status 139)", 1),
    ],
)
def test_the_check_that_failed_is_found_in_the_source(
    tmp_path: Path, message: str, line: int
) -> None:
    source = tmp_path / "x.c"
    source.write_text(SOURCE)
    assert line_of_failure(source, message) == line
