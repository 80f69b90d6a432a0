# SPDX-License-Identifier: MIT
"""Fixtures that several of the plugin's test files share."""

from __future__ import annotations

import pytest
from plugin_bench import CONFTEST, Bench


@pytest.fixture
def bench(pytester: pytest.Pytester) -> Bench:
    pytester.makeconftest(CONFTEST.read_text())
    return Bench(pytester)
