# SPDX-License-Identifier: MIT
"""Cells from options, program headers, and the judging of programs."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dunelab.deadline import Deadline
from dunelab.errors import (
    BootFailed,
    DeadlineExpired,
    DunelabError,
    GuestDied,
    InfrastructureError,
    UsageError,
)
from dunelab.pytest_support import runner
from dunelab.pytest_support.header import (
    Program,
    ProgramKind,
    ProgramOptions,
    Variant,
    bench_variant,
    list_programs,
    parse_header,
    variant_from,
)
from dunelab.pytest_support.options import CellRequest, cells_of, pairs_of
from dunelab.pytest_support.recorder import folder_name, headline, outcome_of, plain_id
from dunelab.pytest_support.schedule import group_of, is_group, scope_of, urgency
from dunelab.pytest_support.slots import Slots
from dunelab.results import ktap
from dunelab.results.schema import MetricResult, Outcome
from dunelab.spec import Cell, CommandResult, EngineName, ImageKind, Unit, Vendor

TCG_AMD = (EngineName.TCG, Vendor.AMD)
BOCHS_INTEL = (EngineName.BOCHS, Vendor.INTEL)
BOCHS_AMD = (EngineName.BOCHS, Vendor.AMD)
KVM_AMD = (EngineName.KVM, Vendor.AMD)


def pick(vendor: Vendor) -> EngineName:
    return EngineName.TCG if vendor is Vendor.AMD else EngineName.BOCHS


@pytest.mark.parametrize(
    ("engines", "vendors", "pairs"),
    [
        ((), (), (TCG_AMD, BOCHS_INTEL)),
        ((), (Vendor.INTEL,), (BOCHS_INTEL,)),
        (("tcg",), (), (TCG_AMD,)),
        (("bochs",), (), (BOCHS_INTEL,)),
        (("bochs",), (Vendor.AMD,), (BOCHS_AMD,)),
        (("bochs",), (Vendor.AMD, Vendor.INTEL), (BOCHS_AMD, BOCHS_INTEL)),
        (("tcg", "bochs"), (), (TCG_AMD, BOCHS_INTEL)),
        (("tcg", "bochs"), (Vendor.AMD,), (TCG_AMD, BOCHS_AMD)),
        (("auto",), (), (TCG_AMD, BOCHS_INTEL)),
        (("auto",), (Vendor.INTEL,), (BOCHS_INTEL,)),
        (("kvm",), (), (KVM_AMD,)),
        (("tcg", "tcg"), (), (TCG_AMD,)),
    ],
)
def test_pairs(
    engines: tuple[str, ...],
    vendors: tuple[Vendor, ...],
    pairs: tuple[tuple[EngineName, Vendor], ...],
) -> None:
    assert pairs_of(CellRequest(engines, vendors), pick, (Vendor.AMD,)) == pairs


@pytest.mark.parametrize(
    ("engines", "vendors"),
    [(("tcg",), (Vendor.INTEL,)), (("kvm",), (Vendor.INTEL,))],
)
def test_impossible_pairs_name_the_next_command(
    engines: tuple[str, ...], vendors: tuple[Vendor, ...]
) -> None:
    with pytest.raises(UsageError, match=r"cannot do intel") as caught:
        pairs_of(CellRequest(engines, vendors), pick, (Vendor.AMD,))
    assert caught.value.next_command is not None
    assert "--engine auto" in caught.value.next_command


def test_cells_are_the_product_with_kernels() -> None:
    cells = cells_of([TCG_AMD, BOCHS_INTEL], ["b", "a", "b"], ["a", "b"], "a")
    assert [str(cell) for cell in cells] == [
        "tcg-amd-b",
        "bochs-intel-b",
        "tcg-amd-a",
        "bochs-intel-a",
    ]
    assert cells_of([TCG_AMD], [], ["a", "b"], "a") == (Cell(*TCG_AMD, "a"),)


def test_unknown_kernel() -> None:
    with pytest.raises(UsageError, match="there are: a, b"):
        cells_of([TCG_AMD], ["c"], ["a", "b"], "a")


def test_groups_keep_cells_apart() -> None:
    groups = {
        group_of(Cell(*pair, kernel), kind)
        for pair in (TCG_AMD, BOCHS_INTEL)
        for kernel in ("a", "b")
        for kind in ("behaviour", "bench")
    }
    assert len(groups) == 8


@pytest.mark.parametrize(
    ("nodeid", "scope"),
    [
        ("a/t.py::test_x[tcg-amd-debian-6.12:bench-getpid]", "tcg-amd-debian-6.12:bench"),
        ("a/t.py::test_x[tcg-amd-debian-6.12:module]", "tcg-amd-debian-6.12:module"),
        ("a/t.py::test_x[tcg-amd-debian-6.12:module-arg-2]", "tcg-amd-debian-6.12:module"),
        ("a/t.py::test_x[tcg-amd-debian-6.12:dune_run-a-b]", "tcg-amd-debian-6.12:dune_run"),
        ("a/t.py::test_x[tcg-amd-k1:sandbox-in [tmp]]", "tcg-amd-k1:sandbox"),
        ("a/t.py::T::test_x[tcg-amd-k1:sandbox-[a:b-c]]", "tcg-amd-k1:sandbox"),
        ("a/t.py::test_x[plain]", "a/t.py::test_x[plain]"),
        ("a/t.py::test_x[a:1]", "a/t.py::test_x[a:1]"),
        ("a/t.py::test_x[t[tcg-amd-k1:sandbox]]", "a/t.py::test_x[t[tcg-amd-k1:sandbox]]"),
        ("a/t.py::test_x", "a/t.py::test_x"),
        ("a/t.py::test_x[y]@mine", "mine"),
    ],
)
def test_scopes(nodeid: str, scope: str) -> None:
    assert scope_of(nodeid) == scope
    assert is_group(scope) is scope.startswith("tcg")


def test_the_longest_begin_first_or_last_where_time_is_limited() -> None:
    tcg, bochs = (Cell(engine, Vendor.AMD, "k") for engine in (EngineName.TCG, EngineName.BOCHS))
    cells = [None, tcg, bochs]
    assert sorted(cells, key=urgency) == [bochs, tcg, None]
    assert sorted(cells, key=lambda cell: urgency(cell, limited=True)) == [tcg, bochs, None]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("int main;", ProgramOptions()),
        ("/* dunelab: */", ProgramOptions()),
        ("/* dunelab: cpus=1 timeout=90 slow icount */",
         ProgramOptions(cpus=1, timeout=90, slow=60, icount=True)),
        ("/* dunelab: slow=900 smp */", ProgramOptions(slow=900, smp=True)),
        ("/* dunelab: slow-bochs=40 */", ProgramOptions(slow_bochs=40)),
        ("/* dunelab: thorough smp */", ProgramOptions(thorough=True, smp=True)),
        ("/* SPDX */\n/* dunelab: vendor=amd runs=2 args=-v,3 */",
         ProgramOptions(vendor=Vendor.AMD, runs=2, args="-v 3")),
        ("/* dunelab: image=full */", ProgramOptions(image=ImageKind.FULL)),
        ("\n" * 50 + "/* dunelab: slow */", ProgramOptions()),
    ],
)  # fmt: skip
def test_headers(text: str, options: ProgramOptions) -> None:
    assert parse_header(text, "x.c") == options


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("/* dunelab: cpu=1 */", "unknown header word 'cpu=1'"),
        ("/* dunelab: cpus=0 */", "must be 1 or more"),
        ("/* dunelab: timeout=soon */", "timeout=soon"),
        ("/* dunelab: vendor=arm */", "vendor=arm"),
        ("/* dunelab: image=big */", "image=big"),
        ("/* dunelab: slow=yes */", "header word"),
        ("/* dunelab: slow */\n/* dunelab: slow */", "more than one"),
    ],
)
def test_bad_headers(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse_header(text, "x.c")


def test_programs_are_found_without_building(tmp_path: Path) -> None:
    for name in (
        "behaviour/b.c",
        "behaviour/a.cc",
        "bench/c.c",
        "other/d.c",
        "behaviour/e.h",
        "native/f.c",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("/* dunelab: timeout=7 */\n")
    assert [program.path for program in list_programs(tmp_path)] == [
        "behaviour/a",
        "behaviour/b",
        "bench/c",
        "native/f",
    ]


def program(kind: ProgramKind = ProgramKind.BEHAVIOUR, **options: object) -> Program:
    return Program(kind, "p", Path("p.c"), ProgramOptions(**options))  # type: ignore[arg-type]


def test_bench_guests_repeat() -> None:
    assert bench_variant(EngineName.TCG) == Variant(
        cpus=1, icount=True, append=("transparent_hugepage=never", "norandmaps")
    )
    assert bench_variant(EngineName.BOCHS).append == (
        "nolapic_timer",
        "transparent_hugepage=never",
        "norandmaps",
    )
    assert not bench_variant(EngineName.KVM).icount
    assert program(ProgramKind.BENCH).variant(EngineName.TCG).icount
    assert program(ProgramKind.BENCH).runs == 3
    assert replace(program(ProgramKind.BENCH), once=True).runs == 1
    assert program().runs == 1


def test_a_program_may_want_the_full_guest() -> None:
    wanted = program(image=ImageKind.FULL)
    assert wanted.variant(EngineName.TCG) == Variant(cpus=2, image=ImageKind.FULL)
    assert str(wanted.variant(EngineName.TCG)) == "2cpu-full"
    assert program(cpus=1, image=ImageKind.FULL).variant(EngineName.TCG).image is ImageKind.FULL
    assert variant_from({"cpus": 1, "image": "full"}) == Variant(cpus=1, image=ImageKind.FULL)
    assert variant_from({"cpus": 1}) == Variant(cpus=1)
    with pytest.raises(ValueError, match="big"):
        variant_from({"image": "big"})


def test_several_cpus_exclude_icount() -> None:
    variant = program(ProgramKind.BENCH, cpus=2).variant(EngineName.TCG)
    assert (variant.cpus, variant.icount) == (2, False)


def ran(stdout: str, status: int = 0, stderr: str = "") -> runner.ProgramRun:
    result = CommandResult("p", status, stdout, stderr, 0.1)
    return runner.ProgramRun(program(), (result,), (ktap.parse(stdout),), Unit.TICKS)


GOOD = "KTAP version 1\n1..1\n# fact: cpl=0\n# fact: exits=12\nok 1 a\n"


def test_good_program_passes() -> None:
    runner.judge(ran(GOOD), EngineName.TCG)


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (ran(GOOD, 1), "exit status 1"),
        (ran(GOOD, 139), "killed by SIGSEGV"),
        (ran("", 0), "no KTAP output"),
        (ran(GOOD.replace("ok 1", "not ok 1")), "not ok a"),
        (ran(GOOD.replace("cpl=0", "cpl=3")), "privilege level 3"),
        (ran(GOOD.replace("exits=12", "exits=0")), "not in guest mode"),
        (ran(GOOD.replace("exits=12", "exits=?")), "not in guest mode"),
        (ran("KTAP version 1\n1..1\nok 1 a\n"), "gives no proof of guest mode"),
        (ran("", 1, "libdune.so: not found"), "libdune.so: not found"),
    ],
)
def test_bad_programs_fail(run: runner.ProgramRun, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        runner.judge(run, EngineName.TCG)


def test_skip_is_told_from_pass() -> None:
    assert runner.all_skipped(ran("KTAP version 1\n1..0 # SKIP no IBT\n")) == "no IBT"
    assert runner.all_skipped(ran(GOOD)) is None


@pytest.mark.parametrize(
    ("values", "unit", "engine", "differs"),
    [
        ((2954.0, 2954.0, 2954.0), "ticks", EngineName.TCG, False),
        ((2954.0, 2980.0, 2954.0), "ticks", EngineName.TCG, False),
        ((2954.0, 2990.0, 2954.0), "ticks", EngineName.TCG, True),
        ((2954.0, 2990.0, 2954.0), "ticks", EngineName.BOCHS, True),
        ((2954.0, 9990.0, 2954.0), "ticks", EngineName.KVM, False),
        ((2954.0, 9990.0, 2954.0), "count", EngineName.TCG, False),
        ((47.0, 48.0, 47.0), "ticks", EngineName.BOCHS, False),
        ((47.0, 52.0, 47.0), "ticks", EngineName.BOCHS, False),
        ((47.0, 53.0, 47.0), "ticks", EngineName.BOCHS, True),
    ],
)
def test_runs_must_agree_to_one_percent(
    values: tuple[float, ...], unit: str, engine: EngineName, differs: bool
) -> None:
    metric = MetricResult("m", unit, values, 3)
    found = runner.disagreements(program(ProgramKind.BENCH), [metric], engine)
    assert bool(found) is differs
    assert runner.disagreements(program(), [metric], engine) == []


@pytest.mark.parametrize(
    ("error", "outcome", "prefix"),
    [
        (AssertionError("x"), Outcome.FAILED, "AssertionError: x"),
        (GuestDied("x"), Outcome.GUEST_DIED, "guest died: x"),
        (InfrastructureError("x"), Outcome.INFRASTRUCTURE, "infrastructure: x"),
        (BootFailed("x"), Outcome.INFRASTRUCTURE, "infrastructure: x"),
        (DeadlineExpired("x"), Outcome.INFRASTRUCTURE, "infrastructure: x"),
        (DunelabError("x"), Outcome.FAILED, "x"),
        (ValueError("x"), Outcome.FAILED, "ValueError: x"),
    ],
)
def test_outcomes_never_mix(error: Exception, outcome: Outcome, prefix: str) -> None:
    assert outcome_of(error) is outcome
    error.add_note("noted")
    assert headline(error) == f"{prefix}\nnoted"


def test_node_ids_and_folders() -> None:
    nodeid = "harness/acceptance/test_programs.py::test_behaviour[tcg-amd-x:behaviour-fork]@mine"
    assert plain_id(nodeid).endswith("fork]")
    assert folder_name(nodeid) == "test_programs.test_behaviour[tcg-amd-x_behaviour-fork]"
    assert "/" not in folder_name("a/b.py::t[../../etc]")
    assert len(folder_name("a.py::t[" + "x" * 500 + "]")) < 150
    assert plain_id("a.py::t[x@y]") == "a.py::t[x@y]"


def test_slots_are_limited_over_holders(tmp_path: Path) -> None:
    first, second, third = (Slots(tmp_path, 2) for _ in range(3))
    first.take(Deadline.after(1, "a"))
    first.take(Deadline.after(1, "a"))
    second.take(Deadline.after(1, "b"))
    with pytest.raises(DeadlineExpired):
        third.take(Deadline.after(0.05, "c"))
    first.give_back()
    third.take(Deadline.after(1, "c"))
    assert third.held


def test_who_gave_a_slot_back_does_not_snatch_it_again(tmp_path: Path) -> None:
    greedy, patient = Slots(tmp_path, 1), Slots(tmp_path, 1)
    greedy.take(Deadline.after(1, "a"))
    waiting = threading.Thread(target=patient.take, args=(Deadline.after(5, "b"),))
    waiting.start()
    time.sleep(0.05)
    greedy.give_back()
    with pytest.raises(DeadlineExpired):
        greedy.take(Deadline.after(0.7, "c"))
    waiting.join()
    assert patient.held
