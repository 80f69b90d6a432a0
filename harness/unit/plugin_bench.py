# SPDX-License-Identifier: MIT
"""A folder in which the pytest plugin runs on guests that are a few lines of Python."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dunelab.results.report import read_results
from dunelab.results.schema import Run, TestResult

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
        # Hypothesis would be imported anew in each run, for nothing but its summary.
        return self.pytester.runpytest_inprocess(
            "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "--assert=plain", *arguments
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
