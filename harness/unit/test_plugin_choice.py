# SPDX-License-Identifier: MIT
"""Which tests the pytest plugin runs, on what, and in which order."""

from __future__ import annotations

import pytest
from plugin_bench import GOOD, Bench

from dunelab.results.schema import Outcome

pytest_plugins = ["pytester"]


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


def test_the_next_group_finds_the_guest_before_the_last(bench: Bench) -> None:
    for name, header in (("a", ""), ("b", "cpus=1")):
        bench.program(f"behaviour/{name}", header)
    bench.pytester.makepyfile(
        test_later="""
        import pytest

        @pytest.mark.guest_group("later")
        def test_later(guest):
            pass
        """
    )
    bench.run("-n", "1", "--engine", "tcg").assert_outcomes(passed=3)
    assert bench.results.results[-1].test.endswith(":later]")
    guests = [line.partition("/")[2] for line in bench.journal if line.startswith("boot")]
    assert guests == ["2cpu", "1cpu"]


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
