# SPDX-License-Identifier: MIT
"""The pytest plugin end to end, on guests that are a few lines of Python."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dunelab.results import ktap
from dunelab.results.report import read_results
from dunelab.results.schema import Outcome, Run, TestResult

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parent / "data" / "plugin_conftest.py"
GOOD = "KTAP version 1\n1..1\n# fact: cpl=0\n# fact: exits=3\nok 1 works\n"
OOPS = Path(__file__).parent / "data" / "splat" / "linux-6.1-null.txt"
PROGRAM_TEST = """
import pytest

@pytest.mark.guest_programs("{kind}")
def test_{kind}(run_program):
    run_program()
"""


def kernel_says(name: str) -> str:
    """The splat of a recorded console, without its time stamps and markers."""
    lines = (OOPS.parent / f"linux-6.1-{name}.txt").read_text().splitlines()
    texts = [line.partition("] ")[2] for line in lines if line.startswith("[")]
    start = next(i for i, text in enumerate(texts) if "dunelab: begin" in text)
    stop = next(
        (i for i, text in enumerate(texts) if "dunelab: end" in text or "reboot: " in text),
        len(texts),
    )
    return "\n".join(texts[start + 1 : stop])


@dataclass
class Bench:
    """A pytester folder with fake guests and programs."""

    pytester: pytest.Pytester

    def program(self, name: str, header: str = "", **script: Any) -> None:
        source = self.pytester.path / "tests" / f"{name}.c"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"/* dunelab: {header} */\n")
        kind = name.partition("/")[0]
        (self.pytester.path / f"test_{kind}.py").write_text(PROGRAM_TEST.format(kind=kind))
        built = self.pytester.path / "programs" / f"{name}.json"
        built.parent.mkdir(parents=True, exist_ok=True)
        built.write_text(json.dumps({"stdout": GOOD, **script}))

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "--assert=plain", *arguments
        )

    @property
    def journal(self) -> list[str]:
        path = self.pytester.path / "journal.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.partition(" ")[2] for line in lines]

    @property
    def results(self) -> Run:
        return read_results(self.pytester.path / "results" / "results.json")

    def result(self, part: str) -> TestResult:
        (found,) = [result for result in self.results.results if part in result.test]
        return found


@pytest.fixture
def bench(pytester: pytest.Pytester) -> Bench:
    pytester.makeconftest(CONFTEST.read_text())
    return Bench(pytester)


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


ONLY_TCG = """
import pytest

@pytest.mark.only_engines("tcg"{reason})
def test_it(guest):
    pass
"""


@pytest.mark.parametrize("reason", ["", ', reason="too slow elsewhere"'])
def test_engines_that_a_test_leaves_out_are_seen_if_it_says_why(bench: Bench, reason: str) -> None:
    (bench.pytester.path / "test_it.py").write_text(ONLY_TCG.format(reason=reason))
    run = bench.run()
    run.assert_outcomes(passed=1, skipped=bool(reason))
    assert sum("boot" in line for line in bench.journal) == 1
    if reason:
        assert "too slow elsewhere; engines for it: tcg" in bench.result("bochs").message


def test_slow_programs_wait_for_slow(bench: Bench) -> None:
    bench.program("behaviour/a", "slow")
    bench.program("behaviour/b")
    bench.run("--engine", "tcg").assert_outcomes(passed=1, deselected=1)
    bench.run("--engine", "tcg", "--slow").assert_outcomes(passed=2)
    bench.run("--engine", "tcg", "--slow-only").assert_outcomes(passed=1, deselected=1)


def test_thorough_programs_wait_for_thorough_slow_or_the_gate(bench: Bench) -> None:
    bench.program("behaviour/a", "thorough")
    bench.program("behaviour/b", "thorough slow")
    bench.program("behaviour/c")
    bench.run("--engine", "tcg").assert_outcomes(passed=1, deselected=2)
    bench.run("--engine", "tcg", "--thorough").assert_outcomes(passed=2, deselected=1)
    bench.run("--engine", "tcg", "--slow").assert_outcomes(passed=3)
    bench.run("--engine", "tcg", "--slow-only").assert_outcomes(passed=1, deselected=2)
    bench.run("--engine", "tcg", "--costs").assert_outcomes(passed=2, deselected=1)
    bench.run("--engine", "tcg", "-k", "behaviour").assert_outcomes(passed=2, deselected=1)


def test_a_test_may_be_thorough(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.thorough
def test_one(): pass

def test_other(): pass
"""
    )
    bench.run().assert_outcomes(passed=1, deselected=1)
    bench.run("--thorough").assert_outcomes(passed=2)
    bench.run("test_it.py").assert_outcomes(passed=2)


def test_a_program_may_be_slow_on_bochs_alone(bench: Bench) -> None:
    bench.program("behaviour/a", "slow-bochs=600")
    bench.run().assert_outcomes(passed=1, deselected=1)
    bench.run("--slow", "--slow-minutes", "9").assert_outcomes(passed=1, skipped=1)


def test_a_slow_program_may_be_slower_on_bochs(bench: Bench) -> None:
    bench.program("behaviour/a", "slow=60 slow-bochs=600")
    bench.run().assert_outcomes(deselected=2)
    bench.run("--slow", "--slow-minutes", "9").assert_outcomes(passed=1, skipped=1)
    assert bench.result("[bochs").outcome is Outcome.SKIPPED


def test_costs_are_measured_once_or_as_the_gate_does(bench: Bench) -> None:
    metric = GOOD.replace("ok 1", "# metric: a=100 ticks n=5\nok 1")
    bench.program("bench/a", stdout=metric)
    bench.run("--engine", "tcg").assert_outcomes(passed=1)
    assert bench.result("-a]").metrics[0].values == (100.0,)
    bench.run("--engine", "tcg", "--costs").assert_outcomes(passed=1)
    assert bench.result("-a]").metrics[0].values == (100.0, 100.0, 100.0)
    bench.program("bench/b", "slow-bochs=60", stdout=metric)
    bench.run("--engine", "bochs").assert_outcomes(passed=1, deselected=1)
    bench.run("--engine", "bochs", "--costs").assert_outcomes(passed=2)


def test_slow_tests_without_time_are_left_out_and_say_so(bench: Bench) -> None:
    bench.program("behaviour/a", "slow=600")
    bench.program("behaviour/b", "slow=60")
    bench.program("behaviour/c")
    done = bench.run("--engine", "tcg", "--slow", "--slow-minutes", "5")
    done.assert_outcomes(passed=2, skipped=1)
    left_out = bench.result("-a]")
    assert left_out.outcome is Outcome.SKIPPED
    assert "left out: slow tests have 5 minutes" in left_out.message
    assert "it takes 10" in left_out.message


OTHER_CPUS = """
import pytest

@pytest.mark.guest_programs("behaviour", group="other_cpus", other_cpus=True)
def test_other(run_program):
    run_program()
"""


def test_programs_on_the_other_number_of_cpus(bench: Bench) -> None:
    for name, header in (("a", ""), ("b", "cpus=1"), ("c", "smp"), ("d", "slow")):
        bench.program(f"behaviour/{name}", header)
    bench.pytester.makepyfile(test_other=OTHER_CPUS)
    bench.run("--engine", "tcg", "test_other.py").assert_outcomes(passed=2)
    cpus = {r.test[-2]: r.ran_on.cpus for r in bench.results.results if r.ran_on is not None}
    assert cpus == {"a": 1, "b": 2}


def test_a_guest_serves_all_its_tests_before_another_starts(bench: Bench) -> None:
    for name, header in (("a", ""), ("b", "cpus=1"), ("c", ""), ("d", "cpus=1"), ("e", "")):
        bench.program(f"behaviour/{name}", header)
    bench.run("--engine", "tcg").assert_outcomes(passed=5)
    guests = [line.partition("/")[2] for line in bench.journal if line.startswith("boot")]
    assert guests == ["2cpu", "1cpu"]
    order = [result.test[-2] for result in bench.results.results]
    assert order == ["a", "c", "e", "b", "d"]


def test_workers_begin_with_the_slowest_engine(bench: Bench) -> None:
    for name in ("a", "b", "c"):
        bench.program(f"behaviour/{name}")
    bench.pytester.makepyfile(test_alone="def test_alone():\n    pass\n")
    bench.run("-n", "1").assert_outcomes(passed=7)
    order = [result.test for result in bench.results.results]
    assert ["bochs" in test for test in order] == [True] * 3 + [False] * 4
    assert order[-1].endswith("test_alone")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--engine", "kvm"), "*engine kvm cannot do intel here: /dev/kvm does not nest*"),
        (("--engine", "tcg", "--vendor", "intel"), "*engine tcg cannot do intel*"),
        (("--kernel", "k9"), "*no kernel 'k9'*there are: k1, k2*"),
        (("--keep-guest", "-n", "2"), "*--keep-guest*without -n*"),
        (("--engine", "kvm", "-n", "2"), "*next:*sudo modprobe kvm_intel nested=1*"),
    ],
)
def test_asked_for_and_not_available_is_a_usage_error(
    bench: Bench, arguments: tuple[str, ...], text: str
) -> None:
    bench.program("behaviour/a")
    done = bench.run(*arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([text])


def test_auto_and_kernels(bench: Bench) -> None:
    bench.program("behaviour/a")
    done = bench.run("--engine", "auto", "--kernel", "k1", "--kernel", "k2", "-n", "2")
    done.assert_outcomes(passed=4)
    assert {result.ran_on.cell for result in bench.results.results if result.ran_on} == {
        "tcg-amd-k1",
        "tcg-amd-k2",
        "bochs-intel-k1",
        "bochs-intel-k2",
    }


def test_nothing_to_run_is_an_error(bench: Bench) -> None:
    bench.program("behaviour/a")
    (bench.pytester.path / "tests" / "behaviour" / "a.c").unlink()
    done = bench.run()
    assert done.ret not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    done.stdout.fnmatch_lines(["*no guest programs in*tests/behaviour*"])


def test_bad_header_names_the_file(bench: Bench) -> None:
    bench.program("behaviour/a", "cups=2")
    done = bench.run()
    assert done.ret != pytest.ExitCode.OK
    done.stdout.fnmatch_lines(["*behaviour/a.c: unknown header word 'cups=2'*"])


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


def test_guest_variant_mark(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.guest_variant(cpus=1, append=("nosmp",))
@pytest.mark.guest_group("alarms")
def test_it(guest, cell):
    assert guest.name.endswith("1cpu-nosmp")
"""
    )
    bench.run("--engine", "tcg", "test_it.py").assert_outcomes(passed=1)


def test_a_test_on_the_full_guest_gets_one_of_its_own(bench: Bench) -> None:
    bench.program("behaviour/a")
    bench.pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.guest_variant(image="full")
@pytest.mark.guest_group("full")
def test_it(guest, cell):
    assert guest.name.endswith("2cpu-full")
"""
    )
    bench.run("--engine", "tcg").assert_outcomes(passed=2)
    boots = sorted(line for line in bench.journal if line.startswith("boot"))
    assert boots == ["boot tcg-amd-k1/2cpu", "boot tcg-amd-k1/2cpu-full"]
    images = {result.ran_on.image for result in bench.results.results if result.ran_on}
    assert images == {"small", "full"}


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_every_test_on_the_full_guest(bench: Bench, workers: tuple[str, ...]) -> None:
    bench.program("behaviour/a")
    bench.run("--engine", "tcg", "--image", "full", *workers).assert_outcomes(passed=1)
    assert [line for line in bench.journal if line.startswith("boot")] == [
        "boot tcg-amd-k1/2cpu-full"
    ]


def test_a_test_may_be_slow_on_some_engines(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.slow(bochs=600)
def test_it(guest):
    pass
"""
    )
    bench.run("test_it.py").assert_outcomes(passed=1, deselected=1)
    bench.run("--slow", "test_it.py").assert_outcomes(passed=2)
    bench.run("--slow", "--slow-minutes", "9", "test_it.py").assert_outcomes(passed=1, skipped=1)


def test_a_parameter_may_be_slow_where_its_test_is_not(bench: Bench) -> None:
    bench.pytester.makepyfile(
        test_it="""
import pytest

@pytest.mark.slow(bochs=600)
@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it(guest, n):
    pass
"""
    )
    bench.run("--engine", "tcg", "test_it.py").assert_outcomes(passed=1, deselected=1)


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


def test_options_are_explained(bench: Bench) -> None:
    text = bench.run("--help").stdout.str()
    for option in ("--engine", "--vendor", "--kernel", "--results", "--slow", "--fresh",
                   "--image", "--keep-guest"):  # fmt: skip
        assert option in text


ONE_MODEL = """
import pytest

@pytest.mark.only_cpu_models("tigerlake")
def test_there(guest_context):
    assert str(guest_context.variant) == "2cpu-tigerlake"

def test_everywhere(guest_context):
    pass
"""


def test_a_test_of_one_cpu_model_is_left_out_elsewhere(bench: Bench) -> None:
    bench.pytester.makepyfile(test_it=ONE_MODEL)
    bench.run("--engine", "bochs", "test_it.py").assert_outcomes(passed=1, deselected=1)
    done = bench.run("--engine", "bochs", "--cpu-model", "tigerlake", "test_it.py")
    done.assert_outcomes(passed=2)
