# SPDX-License-Identifier: MIT
"""The workflows call ci/github and nothing else, and all of its jobs have a caller.

Their form is ci/lint's business: GitHub's own schemas, and zizmor.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "ci/github"
FILES = sorted((ROOT / ".github").rglob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
DIGITS = "0123456789abcdef"
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}$")


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(path.read_text("utf-8"))
    return loaded


def steps(path: Path) -> Iterator[Mapping[str, Any]]:
    document = load(path)
    jobs = document.get("jobs", {}).values()
    for holder in (*jobs, document.get("runs", {})):
        yield from holder.get("steps", [])


def commands() -> list[str]:
    return [step["run"].strip() for path in FILES for step in steps(path) if "run" in step]


def github_jobs() -> set[str]:
    """The jobs that the script knows: its usage and its cases say the same."""
    text = SCRIPT.read_text("utf-8")
    cases = set(re.findall(r"^([a-z]+)\)$", text, re.MULTILINE))
    usage = set(re.findall(r"^#   (?:sudo )?sh ci/github ([a-z]+)", text, re.MULTILINE))
    assert cases == usage
    return cases


def test_each_step_calls_the_script_and_nothing_else() -> None:
    called = set()
    for command in commands():
        match = re.fullmatch(r"(?:sudo )?sh ci/github ([a-z]+)(?: [\w/$\" .-]+)?", command)
        assert match is not None, command
        called.add(match[1])
    assert called == github_jobs()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_and_local_ones_are_there(path: Path) -> None:
    uses = [step["uses"] for step in steps(path) if "uses" in step]
    uses += [job["uses"] for job in load(path).get("jobs", {}).values() if "uses" in job]
    for name in uses:
        if name.startswith("./"):
            assert (ROOT / name).exists()
        else:
            assert PINNED.match(name), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_permissions_and_groups(path: Path) -> None:
    document = load(path)
    assert document["permissions"] == {"contents": "read"}
    # YAML 1.1 reads "on" as true.
    triggers = document.get("on", document.get(True))
    called = set(triggers) == {"workflow_call"}
    assert called or "group" in document["concurrency"]
    for name, job in document["jobs"].items():
        assert set(job.get("permissions", {})) <= {"contents", "pull-requests"}
        assert path.stem == "kernels" or "permissions" not in job, name


def test_every_job_leaves_its_evidence_however_it_ends() -> None:
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            if "uses" in job or name in ("plan", "search"):
                continue
            last = job["steps"][-1]
            assert last["uses"].startswith("actions/upload-artifact@"), (path, name)
            assert last["if"] == "always()"


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_an_unknown_job_is_told_which_there_are() -> None:
    done = run("dance")
    assert done.returncode == 2
    assert all(f"ci/github {job}" in done.stderr for job in github_jobs())


def test_keys_follow_the_content(tmp_path: Path) -> None:
    def keys(kernel: str) -> dict[str, str]:
        output = tmp_path / "output"
        output.write_text("")
        done = run("keys", kernel, GITHUB_OUTPUT=str(output), XDG_CACHE_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        return dict(line.split("=", 1) for line in output.read_text().splitlines())

    resolved = tmp_path / "dunelab/resolved"
    resolved.mkdir(parents=True)
    record = resolved / f"kernel-debian-7.3-{DIGITS}.json"
    record.write_text(json.dumps({"version": "7.3.1"}))
    first = keys("debian-7.3")
    assert first == keys("debian-7.3")
    assert set(first) == {"base", "programs", "kernel"}
    assert first["kernel"].startswith("kernel-debian-7.3-")
    record.write_text(json.dumps({"version": "7.3.2"}))
    second = keys("debian-7.3")
    assert second["kernel"] != first["kernel"]
    assert second["base"] == first["base"]
    (resolved / f"kernel-debian-7.3-rt-{DIGITS}.json").write_text("{}")
    assert keys("debian-7.3") == second
    every = keys("all")["kernel"]
    assert every.startswith("kernel-all-")
    assert every.rpartition("-")[2] != second["kernel"].rpartition("-")[2]
    (resolved / f"builder-{DIGITS}.json").write_text("{}")
    assert keys("debian-7.3")["base"] != second["base"]
    assert set(keys("")) == {"base", "programs"}
