# SPDX-License-Identifier: MIT
"""A matrix run as a KCIDB document: the tree, its builds, and every test of its cells."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dunelab.matrix.model import BuildReport, CellReport, MatrixReport, Verdict
from dunelab.results import kcidb
from dunelab.results.schema import Run

FILE = "kcidb.json"
ORIGIN = "dunelab"

STATUS = {
    Verdict.PASS: "PASS",
    Verdict.FAIL: "FAIL",
    Verdict.DEAD: "FAIL",
    Verdict.INFRASTRUCTURE: "MISS",
    Verdict.NOT_RUN: "SKIP",
}


def document(
    report: MatrixReport, runs: Mapping[str, Run], commit_hash: str | None, origin: str = ORIGIN
) -> dict[str, Any]:
    """The whole run; ``runs`` holds the tests of each cell, by the cell's name."""
    checkout = f"{origin}:{report.commit or 'unknown'}/{report.started}"
    builds = {build.kernel: build for build in report.builds}
    tests: list[dict[str, Any]] = []
    for cell in report.cells:
        # Of a kernel without a build nothing can be said.
        if cell.kernel in builds and cell.cell:
            tests += _tests(cell, runs.get(cell.cell), f"{checkout}/{cell.kernel}", report, origin)
    return kcidb.finish(
        [_checkout(report, checkout, commit_hash, origin)],
        [_build(build, checkout, origin) for build in builds.values()],
        tests,
    )


def _checkout(
    report: MatrixReport, checkout: str, commit_hash: str | None, origin: str
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": checkout,
        "origin": origin,
        "tree_name": "dune",
        "start_time": report.started,
        "valid": True,
    }
    if report.commit:
        found["git_commit_name"] = report.commit
    if commit_hash:
        found["git_commit_hash"] = commit_hash
        if not (report.commit or "").endswith("-dirty"):
            # The schema's word for "no patches on top".
            found["patchset_hash"] = ""
    return found


def _build(build: BuildReport, checkout: str, origin: str) -> dict[str, Any]:
    status = "MISS" if build.missing else "FAIL" if build.failure else "PASS"
    return {
        "id": f"{checkout}/{build.kernel}",
        "origin": origin,
        "checkout_id": checkout,
        "comment": f"dune.ko for Linux {build.release or build.kernel}",
        "architecture": kcidb.ARCHITECTURE,
        "config_name": build.kernel,
        "duration": round(build.seconds, 1),
        "status": status,
        **kcidb.excerpt(build.cause),
        "misc": {
            "kernel_release": build.release,
            "breaks": [item.text for item in build.breaks],
        },
    }


def _tests(
    cell: CellReport, run: Run | None, build: str, report: MatrixReport, origin: str
) -> list[dict[str, Any]]:
    """The cell as a whole, then its tests, which lie below it in the tree of paths."""
    environment = {
        "vendor": cell.vendor,
        "kernel": cell.kernel,
        "release": cell.release,
        "host": cell.host,
    }
    whole = {
        "id": f"{build}/{cell.cell}",
        "origin": origin,
        "build_id": build,
        "path": kcidb.PATH_ROOT,
        "status": STATUS[cell.verdict],
        "duration": cell.seconds,
        "environment": {"comment": cell.cell, "misc": environment},
        "comment": f"suite {report.suite} on {cell.cell}",
        **kcidb.excerpt(cell.cause),
        "misc": {"passed": cell.passed, "failed": cell.failed, "skipped": cell.skipped},
    }
    if run is None:
        return [whole]
    return [whole, *kcidb.test_objects(run, origin, build, cell.cell, environment)]


def commit_hash(root: Path, commit: str | None) -> str | None:
    """The whole name of a commit; None if this tree does not have it."""
    if not commit:
        return None
    name = commit.removesuffix("-dirty")
    command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
