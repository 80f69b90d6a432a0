# SPDX-License-Identifier: MIT
"""The comparison as tables and as a JSON document (``schema.json`` beside this file)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dunelab.fidelity.model import SCHEMA_ID, Difference, Pair, differences
from dunelab.results.report import write_atomically
from dunelab.results.schema import RanOn, RunHeader

WHY_LINES = 6


@dataclass(frozen=True)
class Comparison:
    """All that a run of ``dunelab fidelity`` found."""

    header: RunHeader
    ran_on: RanOn | None
    tries: tuple[tuple[Pair, ...], ...]

    @property
    def differences(self) -> tuple[Difference, ...]:
        return tuple(found for tries in self.tries for found in differences(tries))

    def to_json(self) -> dict[str, Any]:
        header = asdict(self.header)
        header["options"] = list(self.header.options)
        return {
            "schema": SCHEMA_ID,
            "run": header,
            "ran_on": asdict(self.ran_on) if self.ran_on is not None else None,
            "units": [{**tries[-1].to_json(), "tries": len(tries)} for tries in self.tries],
            "differences": [found.to_json() for found in self.differences],
        }


@cache
def _schema() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def write(comparison: Comparison, path: Path) -> None:
    """Check the document against the schema and write it."""
    document = comparison.to_json()
    jsonschema.validate(document, _schema())
    write_atomically(path.resolve(), json.dumps(document, indent=2) + "\n")


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {end}" for end, count in counts.items()) or "-"


def print_summary(console: Console, tries: Sequence[Sequence[Pair]]) -> None:
    """A row per unit; those of one test each are summed up per suite."""
    table = Table("unit", "native", "s", "Dune", "s", "differences", title="fidelity")
    for of_unit in tries:
        last = of_unit[-1]
        table.add_row(
            f"{last.native.suite} {last.native.unit}",
            _words(last.native.counts) if last.native.counts else str(last.native.tests[0].end),
            f"{last.native.seconds:.0f}",
            _words(last.dune.counts) if last.dune.counts else str(last.dune.tests[0].end),
            f"{last.dune.seconds:.0f}",
            str(len(differences(of_unit)) or ""),
        )
    console.print(table)


def print_differences(console: Console, found: Sequence[Difference]) -> None:
    """Each difference with the first lines of what was said."""
    for one in found:
        steady = "" if one.steady else "  (not in every try)"
        console.print(
            f"[bold]{escape(one.suite)} {escape(one.unit)}[/] {escape(one.test)}: "
            f"native {one.native.end}, Dune {one.dune.end}{steady}"
        )
        for side, test in (("native", one.native), ("Dune", one.dune)):
            for line in test.why.splitlines()[-WHY_LINES:]:
                console.print(f"    {side}: {line}", markup=False, highlight=False)
