# SPDX-License-Identifier: MIT
"""What was run already: one JSON file per unit, way and try.

A native run is filed under the kernel and the root disk it ran on, one in Dune
mode under all of the image, so a changed dune.ko or libdune runs again and the
native side does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dunelab.fidelity.model import How, UnitRun
from dunelab.fidelity.suites import Suite, Unit, guest_file
from dunelab.images.digest import Digest
from dunelab.results.report import write_atomically
from dunelab.spec import GuestImage


@dataclass(frozen=True)
class State:
    """A folder of results of one cell."""

    folder: Path
    image: GuestImage

    def load(self, suite: Suite, unit: Unit, how: How, attempt: int) -> UnitRun | None:
        """What an earlier run found, if it ran the same thing on the same guest."""
        path = self._path(suite, unit, how, attempt)
        if not path.exists():
            return None
        raw = json.loads(path.read_text("utf-8"))
        if raw["key"] != self._key(suite, unit, how):
            return None
        return UnitRun.from_json(raw["run"])

    def save(self, suite: Suite, unit: Unit, attempt: int, run: UnitRun, log: str) -> None:
        """Remember a run, and its log beside it."""
        path = self._path(suite, unit, run.how, attempt)
        write_atomically(path.with_suffix(".log"), log)
        document = {"key": self._key(suite, unit, run.how), "run": run.to_json()}
        write_atomically(path, json.dumps(document, indent=1) + "\n")

    def _path(self, suite: Suite, unit: Unit, how: How, attempt: int) -> Path:
        return self.folder / suite.name / f"{unit.name}.{how}.{attempt}.json"

    def _key(self, suite: Suite, unit: Unit, how: How) -> str:
        disk = self.image.disk.parent.name if self.image.disk else ""
        root = self.image.digest if how is How.DUNE else f"{self.image.release} {disk}"
        digest = (
            Digest("fidelity").text("root", root).text("command", " ".join(suite.command(unit)))
        )
        digest.text("seconds", str(unit.seconds))
        for path in (guest_file("unit.sh"), *suite.files):
            digest.file(path.name, path)
        return digest.hex()
