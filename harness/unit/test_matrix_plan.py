# SPDX-License-Identifier: MIT
from __future__ import annotations

import json

import pytest

from dunelab.cli.main import main
from dunelab.errors import UsageError
from dunelab.images.kernels import KernelEntry, Lost
from dunelab.matrix.budget import choose, parse_duration
from dunelab.matrix.model import Verdict
from dunelab.matrix.plan import Planned, github_plan, lost_rows, plan_cells, plan_lines
from dunelab.spec import EngineName, Vendor

EMULATORS = {Vendor.AMD: EngineName.TCG, Vendor.INTEL: EngineName.BOCHS}


def entry(name: str, series: str, flavour: str = "amd64") -> KernelEntry:
    return KernelEntry(name, "suite", flavour, series, None)


ENTRIES = (
    entry("k7.3", "7.3"),
    entry("k5.10", "5.10"),
    entry("k6.12", "6.12"),
    entry("k6.12-cloud", "6.12", "cloud-amd64"),
    entry("k6.12-rt", "6.12", "rt-amd64"),
)


def names(planned: tuple[Planned, ...]) -> list[str]:
    return [str(item.cell) for item in planned]


def test_one_cell_per_kernel_and_vendor_the_oldest_first() -> None:
    planned = plan_cells(ENTRIES, EMULATORS)
    assert names(planned)[:4] == [
        "tcg-amd-k5.10",
        "bochs-intel-k5.10",
        "tcg-amd-k6.12",
        "bochs-intel-k6.12-tigerlake",
    ]
    assert names(planned)[-1] == "bochs-intel-k7.3-tigerlake"
    assert len(planned) == 2 * len(ENTRIES)


def test_ibt_is_for_plain_kernels_that_have_it_on_bochs() -> None:
    models = {str(item.cell): item.cell.cpu_model for item in plan_cells(ENTRIES, EMULATORS)}
    assert {name for name, model in models.items() if model} == {
        "bochs-intel-k6.12-tigerlake",
        "bochs-intel-k7.3-tigerlake",
    }
    hardware = plan_cells(ENTRIES, dict.fromkeys(Vendor, EngineName.KVM))
    assert not any(item.cell.cpu_model for item in hardware)


def test_what_cannot_be_is_planned_with_its_reason() -> None:
    refused = {str(item.cell): item.refused for item in plan_cells(ENTRIES, EMULATORS)}
    assert "e1000" in refused.pop("bochs-intel-k6.12-cloud")
    assert not any(refused.values())
    on_tcg = plan_cells(ENTRIES[:1], dict.fromkeys(Vendor, EngineName.TCG))
    assert [item.refused for item in on_tcg] == ["tcg has no intel", ""]


def test_lost_kernels_are_in_the_table() -> None:
    rows = lost_rows([Lost(("6.16", "7.1"), "no headers")])
    assert [(row.kernel, row.vendor) for row in rows] == [("6.16", "both"), ("7.1", "both")]
    assert {(row.verdict, row.cause) for row in rows} == {(Verdict.NOT_RUN, "no headers")}


def test_github_gets_a_command_per_cell() -> None:
    plan = github_plan(plan_cells(ENTRIES, EMULATORS), "run")
    assert json.loads(json.dumps(plan)) == plan
    assert plan["include"][0]["command"] == (
        "dunelab matrix --kernel k5.10 --vendor amd --suite run"
    )
    assert len(plan["include"]) == 2 * len(ENTRIES)


def test_other_machines_get_a_line_per_cell() -> None:
    lines = plan_lines(plan_cells(ENTRIES, EMULATORS), "run").splitlines()
    assert lines[0] == "k5.10 amd run"
    assert len(set(lines)) == 2 * len(ENTRIES)


def test_a_plan_may_have_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--plan", "github"]) == 0
    whole = json.loads(capsys.readouterr().out)["include"]
    assert {cell["vendor"] for cell in whole} == set(Vendor)
    assert main(["matrix", "--plan", "github", "--budget", "20m"]) == 0
    said = capsys.readouterr()
    part = json.loads(said.out)["include"]
    assert {cell["vendor"] for cell in part} == set(Vendor)
    assert 0 < len(part) < len(whole)
    assert "left out of the plan for --budget 20m: " in said.err


# -- budget ------------------------------------------------------------------------


def minute(_item: Planned) -> float:
    return 60.0


def test_without_a_budget_all_are_chosen() -> None:
    planned = plan_cells(ENTRIES, EMULATORS)
    assert choose(planned, None, minute).chosen == planned


def test_a_budget_covers_vendors_and_the_oldest_and_newest_first() -> None:
    planned = plan_cells(ENTRIES, EMULATORS)
    choice = choose(planned, 240.0, minute)
    assert len(choice.chosen) == 4
    assert {(item.cell.kernel, item.cell.vendor) for item in choice.chosen} == {
        (kernel, vendor) for kernel in ("k5.10", "k7.3") for vendor in Vendor
    }
    assert set(choice.left_out) == set(planned) - set(choice.chosen)


def test_what_does_not_fit_is_left_out_and_not_begun() -> None:
    planned = plan_cells(ENTRIES, EMULATORS)

    def slow_bochs(item: Planned) -> float:
        return 1000.0 if item.cell.engine is EngineName.BOCHS else 60.0

    choice = choose(planned, 150.0, slow_bochs)
    assert [item.cell.engine for item in choice.chosen] == [EngineName.TCG] * 2
    assert choose(planned, 10.0, minute).chosen == ()
    assert choose((), 10.0, minute).left_out == ()


def test_more_time_covers_more_and_repeats_nothing() -> None:
    planned = plan_cells(ENTRIES, EMULATORS)
    choice = choose(planned, 1e9, minute)
    assert sorted(names(choice.chosen)) == sorted(names(planned))


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600.0), ("90s", 90.0), ("1.5h", 5400.0), ("30", 30.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5m", "0m", "5d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time such as"):
        parse_duration(text)
