# SPDX-License-Identifier: MIT
"""pytest plugin: tests on guests, grouped by cell, with the kernel watched.

Options are in ``pytest --help`` under "dunelab", marks in ``pytest --markers``.
Fixtures: ``cell``, ``guest``, ``run_program``, ``expect_splat``, ``lab``,
``resting_guests``.  This file only wires up what lives in
``dunelab.pytest_support``.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from dunelab.pytest_support.controller import JUNIT_FILE, Controller
from dunelab.pytest_support.fixtures import Fixtures
from dunelab.pytest_support.lab import Lab
from dunelab.pytest_support.options import AUTO
from dunelab.pytest_support.plan import Plan
from dunelab.pytest_support.second_try import SecondTry
from dunelab.pytest_support.worker import Worker
from dunelab.spec import EngineName, ImageKind, Vendor

MARKS = (
    "guest_programs(kind, group=kind, other_cpus=False): run once per guest program of "
    "tests/<kind> and cell; other_cpus: on the number of CPUs that is not in its header",
    "guest_variant(cpus, icount, append, cpu_model, image): the guest this test needs",
    "guest_group(name): the part of a cell's tests this one belongs to, for -n",
    "only_engines(name, ..., reason=None): leave this test out of the cells of other engines; "
    "with a reason they show it, as a skipped test",
    "only_cpu_models(name, ...): leave this test out unless --cpu-model is one of these",
    "only_vendors(name, ...): leave this test out of the cells of other vendors",
)


class Hooks:
    """Hooks this plugin adds."""

    @pytest.hookspec(firstresult=True)
    def pytest_dunelab_lab(self, config: pytest.Config) -> Lab | None:
        """Return what boots guests; the default is dunelab's own."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare ``pytest_dunelab_lab``."""
    pluginmanager.add_hookspecs(Hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the bench."""
    group = parser.getgroup("dunelab", "dunelab: tests on guests with VT-x or SVM")
    group.addoption(
        "--engine",
        dest="dunelab_engines",
        action="append",
        default=[],
        choices=[AUTO, *EngineName],
        help="engine to run guests on, repeatable (default: SVM on tcg and VT-x on bochs); "
        "only 'auto' chooses, any other that does not work here is an error",
    )
    group.addoption(
        "--vendor",
        dest="dunelab_vendors",
        action="append",
        default=[],
        choices=list(Vendor),
        help="run on this vendor's extension only, repeatable",
    )
    group.addoption(
        "--kernel",
        dest="dunelab_kernels",
        action="append",
        default=[],
        metavar="ID",
        help="kernel of images/kernels.toml, or the path of one of your own, repeatable "
        "(default: the one marked there)",
    )
    group.addoption(
        "--image",
        dest="dunelab_image",
        choices=list(ImageKind),
        default=ImageKind.SMALL.value,
        help="full: run every test on the full guest, a Debian root on a disk; small "
        "(default): only those that ask for it",
    )
    group.addoption(
        "--cpu-model",
        dest="dunelab_cpu_model",
        metavar="MODEL",
        default=None,
        help="CPU model of every guest whose test does not ask for one, in the engine's words",
    )
    group.addoption(
        "--results",
        dest="dunelab_results",
        metavar="DIR",
        default=None,
        help="where results.json, junit.xml and logs go (default: results; runs of unit "
        "tests alone write nothing unless this is given)",
    )
    group.addoption(
        "--costs",
        dest="dunelab_costs",
        action="store_true",
        help="measure each cost three times, after a run to warm up, and fail if the three "
        "differ where they should not (dunelab bench does so); without it once",
    )
    group.addoption(
        "--thorough",
        dest="dunelab_thorough",
        action="store_true",
        help="also run tests marked thorough, as `ci/bootstrap test` does; options that add "
        "tests, or name them (-k), imply it",
    )
    group.addoption(
        "--slow",
        dest="dunelab_slow",
        action="store_true",
        help="also run tests marked slow",
    )
    group.addoption(
        "--slow-only",
        dest="dunelab_slow_only",
        action="store_true",
        help="run tests marked slow and no others",
    )
    group.addoption(
        "--slow-minutes",
        dest="dunelab_slow_minutes",
        type=float,
        metavar="N",
        default=None,
        help="begin no slow test that would not end within N minutes from the start of the "
        "run; what was left out is listed as skipped",
    )
    group.addoption(
        "--dune-programs",
        dest="dunelab_dune_programs",
        metavar="DIR",
        default=None,
        help="a checkout of the original Dune: compile its programs against libdune and run "
        "them, with -k existing_programs (docs/porting.md)",
    )
    group.addoption(
        "--fresh",
        dest="dunelab_fresh",
        action="store_true",
        help="boot a new guest, cold, for every test instead of reusing one",
    )
    group.addoption(
        "--keep-guest",
        dest="dunelab_keep_guest",
        action="store_true",
        help="at the end say how to reach the guests that exist and wait for Ctrl-C before "
        "ending them; not with -n",
    )
    group.addoption(
        "--guests",
        dest="dunelab_guests",
        type=int,
        metavar="N",
        default=None,
        help="guests that may run at once over all workers (default: one per core, at least 2)",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    """With ``-n`` alone, keep each group of tests on one worker."""
    option = config.option
    if getattr(option, "numprocesses", None) and getattr(option, "dist", "") == "no":
        option.dist = "loadgroup"
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups of guest tests stay together."""
    from dunelab.pytest_support.schedule import make_scheduler

    return make_scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Work out the plan and register the halves that carry it out."""
    for mark in MARKS:
        config.addinivalue_line("markers", mark)
    plan = Plan(config)
    worker = Worker(config, plan)
    config.pluginmanager.register(worker, "dunelab-worker")
    config.pluginmanager.register(SecondTry(worker), "dunelab-second-try")
    config.pluginmanager.register(Fixtures(worker, plan), "dunelab-fixtures")
    if hasattr(config, "workerinput"):
        return
    if plan.keep_guest and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--keep-guest holds guests for a person: use it without -n")
    config.pluginmanager.register(Controller(config, plan, worker), "dunelab-controller")
    if plan.explicit:
        # An impossible request ends the run here, before anything is collected.
        _ = plan.cells
    if plan.writes_results and not config.option.xmlpath and not config.option.collectonly:
        config.option.xmlpath = str(plan.results / JUNIT_FILE)


@pytest.hookimpl(trylast=True)
def pytest_dunelab_lab(config: pytest.Config) -> Lab:
    """The real thing; imported late, so that plain runs start fast."""
    from dunelab.dune.lab import DuneLab

    return DuneLab(config.rootpath)
