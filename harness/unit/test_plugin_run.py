# SPDX-License-Identifier: MIT
"""The pytest plugin end to end, on guests that are a few lines of Python."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from plugin_bench import GOOD, OOPS, Bench, kernel_says

from dunelab.results import ktap
from dunelab.results.schema import Outcome

pytest_plugins = ["pytester"]


def test_each_program_is_an_item_per_cell(bench: Bench) -> None:
    bench.program("behaviour/enter")
    bench.program("behaviour/fork", "vendor=amd")
    bench.program("bench/cost", stdout=GOOD.replace("ok 1", "# metric: a=100 ticks n=5\nok 1"))
    bench.run().assert_outcomes(passed=5)
    assert sorted(result.test for result in bench.results.results) == [
        "test_behaviour.py::test_behaviour[bochs-intel-k1:behaviour-enter]",
        "test_behaviour.py::test_behaviour[tcg-amd-k1:behaviour-enter]",
        "test_behaviour.py::test_behaviour[tcg-amd-k1:behaviour-fork]",
        "test_bench.py::test_bench[bochs-intel-k1:bench-cost]",
        "test_bench.py::test_bench[tcg-amd-k1:bench-cost]",
    ]
    cost = bench.result("test_bench[tcg")
    assert cost.ran_on is not None
    assert (cost.ran_on.accelerator, cost.ran_on.vendor, cost.ran_on.kernel_release) == (
        "fake-tcg",
        "amd",
        "6.12.0-fake",
    )
    assert (cost.metrics[0].values, cost.metrics[0].samples) == ((100.0,), 5)
    assert cost.facts == {"cpl": "0", "exits": "3"}
    assert cost.subtests == (("works", "passed"),)


def test_one_guest_per_cell_and_variant_ended_at_the_end(bench: Bench) -> None:
    for name in ("behaviour/a", "behaviour/b", "bench/c"):
        bench.program(name)
    bench.run("--engine", "tcg").assert_outcomes(passed=3)
    boots = [line for line in bench.journal if line.startswith("boot")]
    assert boots == [
        "boot tcg-amd-k1/2cpu",
        "boot tcg-amd-k1/1cpu-icount-transparent_hugepage=never-norandmaps",
    ]
    ends = [line for line in bench.journal if line.startswith(("off", "kill"))]
    assert len(ends) == len(boots)


def test_fresh_boots_for_every_test(bench: Bench) -> None:
    bench.program("behaviour/a")
    bench.program("behaviour/b")
    bench.run("--engine", "tcg", "--fresh").assert_outcomes(passed=2)
    assert sum(line.startswith("boot") for line in bench.journal) == 2
    assert sum(line.startswith("off") for line in bench.journal) == 2


def test_xdist_keeps_a_group_on_one_worker(bench: Bench) -> None:
    for name in ("behaviour/a", "behaviour/b", "behaviour/c", "bench/d"):
        bench.program(name)
    done = bench.run("-n", "4")
    done.assert_outcomes(passed=8)
    boots = sorted(line for line in bench.journal if line.startswith("boot"))
    assert boots == [
        "boot bochs-intel-k1/1cpu-nolapic_timer-transparent_hugepage=never-norandmaps",
        "boot bochs-intel-k1/2cpu",
        "boot tcg-amd-k1/1cpu-icount-transparent_hugepage=never-norandmaps",
        "boot tcg-amd-k1/2cpu",
    ]
    assert sum(line.startswith(("off", "kill")) for line in bench.journal) == 4
    assert len(bench.results.results) == 8
    assert not any("@" in result.test for result in bench.results.results)
    done.stdout.fnmatch_lines(["*cells*", "*tcg-amd-k1*fake-tcg*4*"])


def test_no_more_workers_have_guests_than_may_run(bench: Bench) -> None:
    """Each other worker would boot the same guest once more; it runs the rest."""
    bench.pytester.makepyfile(
        test_groups="""
        import pytest

        @pytest.mark.guest_group("one")
        def test_one(guest):
            pass

        @pytest.mark.guest_group("two")
        def test_two(guest):
            pass

        @pytest.mark.guest_group("three")
        def test_three(guest):
            pass

        @pytest.mark.parametrize("number", range(12))
        def test_alone(number):
            pass
        """
    )
    bench.run("-n", "4", "--guests", "1", "--engine", "tcg").assert_outcomes(passed=15)
    assert [line for line in bench.journal if line.startswith("boot")] == ["boot tcg-amd-k1/2cpu"]


def test_failed_assertion(bench: Bench) -> None:
    bench.program("behaviour/a", stdout=GOOD.replace("ok 1", "# got 1, want 2\nnot ok 1"))
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(failed=1)
    result = bench.result("test_behaviour")
    assert result.outcome is Outcome.FAILED
    assert "not ok works: got 1, want 2" in result.message
    folder = bench.pytester.path / "results" / str(result.log_folder)
    assert {path.name for path in folder.iterdir()} == {
        "command.txt",
        "console.txt",
        "engine-command.txt",
        "output.ktap",
        "stderr.txt",
    }
    document = ktap.parse((folder / "output.ktap").read_text())
    assert document.complaints() == ("not ok works: got 1, want 2",)


def test_on_github_a_failure_is_an_annotation_at_its_line(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    bench.program("behaviour/a", stdout=GOOD.replace("ok 1", "not ok 1"))
    source = bench.pytester.path / "tests/behaviour/a.c"
    source.write_text(source.read_text() + '\n\tktap_ok(0, "works");\n')
    (bench.pytester.path / "test_plain.py").write_text("def test_it():\n    assert 1 == 2\n")
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines_random(
        [
            "::error file=tests/behaviour/a.c,line=3,title=*test_behaviour*::*not ok works*",
            "::error file=test_plain.py,line=2,title=*test_it::AssertionError*",
        ]
    )
    assert bench.result("test_behaviour").place == "tests/behaviour/a.c:3"
    monkeypatch.delenv("GITHUB_ACTIONS")
    bench.run("--engine", "tcg").stdout.no_fnmatch_line("::error*")


def test_a_passing_program_on_a_complaining_kernel_fails(bench: Bench) -> None:
    bench.program("behaviour/a", kernel=kernel_says("warn"))
    bench.program("behaviour/b")
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(failed=1, passed=1)
    result = bench.result("-a]")
    assert result.outcome is Outcome.FAILED
    assert "kernel splat: WARNING: at dunelab_alarm.c:32 ring_warn" in result.message
    assert "during test_behaviour.py::test_behaviour[tcg-amd-k1:behaviour-a]" in result.message
    # The damaged guest was not used for the next test.
    assert sum(line.startswith("boot") for line in bench.journal) == 2


def test_dead_guest(bench: Bench) -> None:
    bench.program("behaviour/a", kernel=kernel_says("panic"), dies="Kernel panic")
    bench.program("behaviour/b")
    done = bench.run("--engine", "tcg", "-rf", "-v")
    done.assert_outcomes(failed=1, passed=1)
    done.stdout.fnmatch_lines(["*GUEST DIED*", "guest died: the guest died: Kernel panic*"])
    result = bench.result("-a]")
    assert result.outcome is Outcome.GUEST_DIED
    assert "ring_panic" in result.message
    assert bench.result("-b]").outcome is Outcome.PASSED
    assert sum(line.startswith("boot") for line in bench.journal) == 2


def test_a_guest_that_qemu_killed_is_a_second_try(bench: Bench) -> None:
    stale = (OOPS.parent / "qemu-7.2-int3.txt").read_text()
    bench.program("behaviour/a", kernel=stale, dies="Oops: int3", deaths=1)
    bench.program("behaviour/b")
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(passed=2)
    done.stdout.fnmatch_lines(["*started a second time*", "*-a]: the guest died of stale code*"])
    first, second = bench.result("-a]"), bench.result("-b]")
    assert first.outcome is Outcome.PASSED
    assert "console" in first.again
    assert second.again == ""
    assert first.log_folder is not None
    kept = bench.pytester.path / "results" / first.log_folder / "console-first-try.txt"
    assert "Oops: int3" in kept.read_text()
    assert sum(line.startswith("boot") for line in bench.journal) == 2


@pytest.mark.parametrize(
    ("engine", "header", "old", "new"),
    [
        ("bochs", "", "", ""),
        ("tcg", "cpus=1", "", ""),
        # The int3 is where memory has one.
        ("tcg", "", "02 0f <1f>", "02 cc <1f>"),
        ("tcg", "", "Oops: int3", "Oops: general protection fault"),
    ],
)
def test_any_other_death_counts_at_once(
    bench: Bench, engine: str, header: str, old: str, new: str
) -> None:
    oops = (OOPS.parent / "qemu-7.2-int3.txt").read_text().replace(old, new)
    bench.program("behaviour/a", header, kernel=oops, dies="an oops", deaths=1)
    bench.run("--engine", engine).assert_outcomes(failed=1)
    result = bench.result("-a]")
    assert result.outcome is Outcome.GUEST_DIED
    assert result.again == ""


def test_a_second_try_is_the_last(bench: Bench) -> None:
    stale = (OOPS.parent / "qemu-7.2-int3.txt").read_text()
    bench.program("behaviour/a", kernel=stale, dies="Oops: int3")
    bench.run("--engine", "tcg").assert_outcomes(failed=1)
    result = bench.result("-a]")
    assert result.outcome is Outcome.GUEST_DIED
    assert result.again
    assert bench.journal.count("death of behaviour/a") == 2


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("noboot.txt", "infrastructure: no sign of life"),
        ("noengine.txt", "infrastructure: qemu is missing"),
    ],
)
def test_infrastructure_is_an_error_not_a_failure(bench: Bench, file: str, text: str) -> None:
    bench.program("behaviour/a")
    (bench.pytester.path / file).write_text("")
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines([f"{text}*"])
    assert bench.result("-a]").outcome is Outcome.INFRASTRUCTURE


def test_a_broken_build_is_tried_once(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.program(f"behaviour/{name}")
    (bench.pytester.path / "nobuild.txt").write_text("")
    bench.run("--engine", "tcg").assert_outcomes(errors=3)
    assert len(bench.journal) == 1


def test_infrastructure_during_the_body_is_an_error_too(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_body="""
from dunelab.errors import InfrastructureError

def test_it(guest):
    raise InfrastructureError("the port is gone", next_command="dunelab doctor")
"""
    )
    done = bench.run("--engine", "tcg", "test_body.py")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(
        ["infrastructure: the port is gone", "*next:*dunelab doctor", "*at test_body.py:*"]
    )
    junit = ElementTree.parse(bench.pytester.path / "results" / "junit.xml")
    (error,) = junit.iter("error")
    assert "infrastructure: the port is gone" in error.attrib["message"]
    assert list(junit.iter("failure")) == []


def test_late_splat_is_blamed_on_the_test_before(bench: Bench) -> None:
    bench.program("behaviour/a")
    bench.program("behaviour/b")
    (bench.pytester.path / "late.txt").write_text(kernel_says("atomic"))
    done = bench.run("--engine", "tcg")
    done.assert_outcomes(passed=2)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    result = bench.result("after ")
    assert result.test == "after test_behaviour.py::test_behaviour[tcg-amd-k1:behaviour-a]"
    assert "scheduling while atomic" in result.message


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_late_splat_of_the_last_test(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.program("behaviour/a")
    (bench.pytester.path / "late.txt").write_text(kernel_says("atomic"))
    done = bench.run("--engine", "tcg", *workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert bench.result("after ").outcome is Outcome.FAILED


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_what_a_guest_leaves_behind_is_a_failure(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.program("behaviour/a")
    (bench.pytester.path / "left.txt").write_text("unreferenced object 0xffff")
    done = bench.run("--engine", "tcg", *workers)
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    result = bench.result("after ")
    assert result.test == "after test_behaviour.py::test_behaviour[tcg-amd-k1:behaviour-a]"
    assert result.outcome is Outcome.FAILED
    assert result.message == "unreferenced object 0xffff"


EXPECTING = """
def test_it(guest, expect_splat):
    expect_splat({pattern!r})
    guest.say({text!r})
"""


@pytest.mark.parametrize(
    ("pattern", "alarm", "passes", "complaint"),
    [
        ("NULL pointer", "null", True, ""),
        ("NULL pointer", None, False, "expected splat did not appear"),
        ("NULL pointer", "warn", False, "kernel splat: WARNING"),
    ],
)
def test_expected_splat(
    bench: Bench, pattern: str, alarm: str | None, passes: bool, complaint: str
) -> None:
    text = kernel_says(alarm) if alarm else ""
    bench.pytester.makepyfile(test_it=EXPECTING.format(pattern=pattern, text=text))
    done = bench.run("--engine", "tcg", "test_it.py")
    done.assert_outcomes(passed=int(passes), failed=int(not passes))
    assert complaint in bench.result("test_it").message


def test_bench_runs_that_disagree_fail(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_it="""
from dunelab.pytest_support import runner
from dunelab.pytest_support.header import Program, ProgramKind, ProgramOptions
from dunelab.spec import EngineName, Unit
from dunelab.results import ktap
from dunelab.spec import CommandResult
from pathlib import Path

def test_it():
    head = "KTAP version 1\\n1..1\\n# fact: cpl=0\\n# fact: exits=1\\n"
    texts = [f"{head}# metric: a={n} ticks\\nok 1 a\\n" for n in (700, 100, 100, 150)]
    run = runner.ProgramRun(
        Program(ProgramKind.BENCH, "p", Path("p.c"), ProgramOptions()),
        tuple(CommandResult("p", 0, text, "", 0.1) for text in texts),
        tuple(ktap.parse(text) for text in texts),
        Unit.TICKS,
    )
    runner.judge(run, EngineName.BOCHS)
"""
    )
    done = bench.run("test_it.py")
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*a: 3 runs differ by 50.00% (limit 1 %): 100, 100, 150*"])


def test_skipped_program_is_skipped_with_its_reason(bench: Bench) -> None:
    bench.program("behaviour/a", stdout="KTAP version 1\n1..0 # SKIP needs IBT\n")
    bench.run("--engine", "tcg").assert_outcomes(skipped=1)
    assert bench.result("-a]").outcome is Outcome.SKIPPED
    assert bench.result("-a]").message == "needs IBT"


def test_a_crashed_worker_is_infrastructure(bench: Bench) -> None:
    bench.pytester.makepyfile(test_it="import os\ndef test_it(guest):\n    os._exit(3)\n")
    bench.run("--engine", "tcg", "-n", "1", "--max-worker-restart", "0", "test_it.py")
    assert bench.result("test_it").outcome is Outcome.INFRASTRUCTURE


def test_unit_runs_leave_results_alone(bench: Bench) -> None:
    unit = bench.pytester.mkdir("unit")
    (unit / "test_plain.py").write_text("def test_it():\n    pass\n")
    bench.run("unit").assert_outcomes(passed=1)
    assert not (bench.pytester.path / "results").exists()
    bench.run("unit", "--results", "elsewhere").assert_outcomes(passed=1)
    assert (bench.pytester.path / "elsewhere" / "results.json").exists()
    assert (bench.pytester.path / "elsewhere" / "junit.xml").exists()


def test_junit_carries_what_it_ran_on(bench: Bench) -> None:
    bench.program("behaviour/a")
    bench.run("--engine", "tcg")
    junit = ElementTree.parse(bench.pytester.path / "results" / "junit.xml")
    properties = {item.attrib["name"]: item.attrib["value"] for item in junit.iter("property")}
    assert properties["accelerator"] == "fake-tcg"
    assert properties["module_build_id"] == "aa11"
    assert properties["unit"] == "ticks"


def test_keep_guest_waits_until_the_guests_are_gone(bench: Bench) -> None:
    """The fake guest of this test ends by itself, which ends the wait."""
    bench.pytester.makepyfile(
        test_it="""
import threading

def test_it(guest):
    threading.Timer(1.0, setattr, (guest, "alive", False)).start()
"""
    )
    done = bench.run("--engine", "tcg", "--keep-guest", "test_it.py")
    done.assert_outcomes(passed=1)
    done.stderr.fnmatch_lines(["*kept tcg-amd-k1 (2cpu):", "*ssh -p 1 fake", "*Ctrl-C ends them"])
