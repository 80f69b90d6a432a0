# SPDX-License-Identifier: MIT
"""Every suite there is, with its data from suites.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from dunelab.fidelity.programs import Compiled, RtTests
from dunelab.fidelity.suites import CPython, Gnulib, StressNg, Suite
from dunelab.images.store import Store


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath("suites.toml").read_text("utf-8"))


def all_suites(store: Store) -> dict[str, Suite]:
    """Every suite by its name, in the order of running; makes nothing yet."""
    data = _data()
    suites: tuple[Suite, ...] = (
        CPython(data["cpython"]),
        Gnulib(data["gnulib"], store),
        Compiled("kselftest", data["kselftest"], store),
        Compiled("libuv", data["libuv"], store),
        Compiled("posix", data["posix"], store),
        RtTests(data["rt-tests"]),
        StressNg(data["stress-ng"]),
    )
    return {suite.name: suite for suite in suites}


def suite_names() -> tuple[str, ...]:
    """The names of all suites."""
    return tuple(_data())
