# SPDX-License-Identifier: MIT
"""Results as KCIDB knows them: what the kernel community's CI systems exchange.

A checkout is this tree, a build is the module built for a kernel, a test is one test of
one cell.  Our outcomes in KCIDB's words:

    passed                      PASS
    failed, guest died          FAIL    the tested code is wrong
    infrastructure              MISS    the bench failed, nothing is known of the code
    skipped, not run            SKIP

The schema and its validator are kcidb-io's; nothing is written that it refuses.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jsonschema

from dunelab.errors import InfrastructureError
from dunelab.results.schema import Outcome, Run, TestResult

LIBRARY = "kcidb_io"
PATH_ROOT = "dunelab"
ARCHITECTURE = "x86_64"

STATUS = {
    Outcome.PASSED: "PASS",
    Outcome.FAILED: "FAIL",
    Outcome.GUEST_DIED: "FAIL",
    Outcome.INFRASTRUCTURE: "MISS",
    Outcome.SKIPPED: "SKIP",
}

_EXCERPT = 16384
# A cell and the tests' group, as the parameter of a test.
_CELL = re.compile(r"(?:kvm|tcg|bochs)-(?:intel|amd)-[^:]*:\w+")
_NOT_IN_PATH = re.compile(r"[^A-Za-z0-9_-]+")


def is_there() -> bool:
    """Whether the library that validates is installed; it is an extra."""
    return importlib.util.find_spec(LIBRARY) is not None


def test_path(test: str) -> str:
    """pytest's node id as a path in KCIDB's tree: ``dunelab.test_programs.test_bench.fork``.

    The cell is no part of it: that is the test's environment.
    """
    module, _, rest = test.partition("::")
    name, _, parameters = rest.partition("[")
    others = _CELL.sub("", parameters.rstrip("]"))
    words = [module.rpartition("/")[2].removesuffix(".py"), *name.split("::"), others]
    plain = (_NOT_IN_PATH.sub("_", word).strip("_-") for word in words)
    return ".".join([PATH_ROOT, *filter(None, plain)])


def test_objects(
    run: Run, origin: str, build: str, cell: str, environment: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """One object per test of a run; ``build`` is the id of what was tested."""
    return [
        {
            "id": f"{build}/{cell}/{number}",
            "origin": origin,
            "build_id": build,
            "path": test_path(result.test),
            "status": STATUS[result.outcome],
            "start_time": run.header.started,
            "duration": round(result.seconds, 3),
            "environment": {
                "comment": cell,
                "misc": {"cell": cell, "host_cpu": run.header.host_cpu, **environment},
            },
            **excerpt(result.message),
            "misc": _misc(result),
        }
        for number, result in enumerate(run.results, 1)
    ]


def excerpt(text: str) -> dict[str, str]:
    """What went wrong, as far as the schema has room; nothing of an empty text."""
    clean = text.replace("\0", "")[:_EXCERPT]
    return {"log_excerpt": clean} if clean else {}


def _misc(result: TestResult) -> dict[str, Any]:
    document = result.to_json()
    kept = ("test", "outcome", "place", "ran_on", "metrics", "facts", "subtests")
    return {name: document[name] for name in kept if document[name]}


def finish(
    checkouts: Sequence[Mapping[str, Any]],
    builds: Sequence[Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The document, which the library has found valid."""
    library = importlib.import_module(LIBRARY)
    latest = library.schema.LATEST
    document: dict[str, Any] = {
        "version": {"major": latest.major, "minor": latest.minor},
        "checkouts": list(checkouts),
        "builds": list(builds),
        "tests": list(tests),
    }
    try:
        latest.validate(document)
    except jsonschema.ValidationError as error:
        raise InfrastructureError(
            f"the results make no valid KCIDB document: {error.json_path}: {error.message}",
            next_command="pytest harness/unit -k kcidb",
        ) from error
    return document
