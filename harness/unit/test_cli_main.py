# SPDX-License-Identifier: MIT
"""The command's frame: dispatch, errors as text, exit statuses."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dunelab.cli import doctor, main
from dunelab.cli import exec as cli_exec
from dunelab.cli.host import Host, Need
from dunelab.errors import EngineUnavailable, InfrastructureError

Run = main.Subcommand


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A subcommand under the name ``exec`` whose ``run`` a test chooses."""
    made = SimpleNamespace(
        NAME="exec", HELP="x", add_arguments=lambda parser: None, run=lambda args: 0
    )
    monkeypatch.setattr(main, "load", lambda name: made)
    return made


def test_the_status_is_passed_on(command: SimpleNamespace) -> None:
    command.run = lambda args: 42
    assert main.main(["exec"]) == 42


def test_an_error_is_text_and_status_2(
    command: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace) -> int:
        raise EngineUnavailable("no engine", evidence="/log", next_command="apt-get install it")

    command.run = fail
    assert main.main(["exec"]) == main.EXIT_ERROR
    text = capsys.readouterr().err
    assert "dunelab: no engine" in text
    assert "evidence: /log" in text
    assert "next:     apt-get install it" in text


def test_an_interrupt_is_130(command: SimpleNamespace) -> None:
    def interrupted(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command.run = interrupted
    assert main.main(["exec"]) == 130


def test_what_follows_two_dashes_is_left_alone(command: SimpleNamespace) -> None:
    seen: list[list[str]] = []
    command.TAKES_REST = True
    command.run = lambda args: seen.append(args.rest) or 0
    main.main(["exec", "--", "ls", "-l", "--", "x"])
    assert seen == [["ls", "-l", "--", "x"]]


def test_two_dashes_where_nothing_may_follow(command: SimpleNamespace) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["exec", "--", "ls"])
    assert caught.value.code == 2


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, explanation in main.SUBCOMMANDS:
        assert name in text
        assert explanation in text


def test_an_unknown_command_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["xecute"])
    assert "no command 'xecute'; there are: doctor," in capsys.readouterr().err


def test_a_broken_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dunelab.cli.prune", None)
    with pytest.raises(InfrastructureError, match="'dunelab prune' cannot be loaded"):
        main.load("prune")


@pytest.mark.parametrize("name", ["doctor", "exec", "shell", "show-command"])
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([name, "--help"])
    assert caught.value.code == 0
    assert f"dunelab {name}" in capsys.readouterr().out


def test_help_is_quick_and_imports_no_engine() -> None:
    script = (
        "import sys; from dunelab.cli.main import main; main(['--help']); "
        "assert not any(m.startswith(('dunelab.engines', 'paramiko')) for m in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=60)


def test_exec_needs_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["exec"]) == 2
    assert "no command" in capsys.readouterr().err


def test_exec_looks_at_the_files_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main.main(["exec", "--push", str(tmp_path / "absent"), "--", "x"]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_exec_quotes_several_words_and_leaves_one_alone() -> None:
    assert cli_exec.command_text(["./prog", "a b"]) == "./prog 'a b'"
    assert cli_exec.command_text(["dmesg | tail"]) == "dmesg | tail"


HOST = Host(2, 4000, 9000, Path("/cache"), 2)
WORKS = doctor.Finding("tcg", "amd", True, "fine")
BROKEN = doctor.Finding("kvm", "intel", False, "hangs", "mend it")
NEVER = doctor.Finding("tcg", "intel", False, "cannot", "use bochs", mendable=False)
UNSEEN = doctor.Finding("bochs", "intel", None, "not looked at", "dunelab doctor")
AUTO = {"amd": "tcg", "intel": "bochs"}


def test_doctor_lists_only_what_a_command_mends() -> None:
    lacking = [Need("disk", "too small", False, "dunelab prune"), Need("qemu", "tcg", True)]
    found = doctor.missing(lacking, [WORKS, BROKEN, NEVER])
    assert [command for _name, _why, command in found] == ["dunelab prune", "mend it"]


def test_doctor_judges_what_auto_would_choose() -> None:
    bochs = doctor.Finding("bochs", "intel", True, "fine")
    assert doctor.both_vendors([WORKS, bochs, BROKEN], AUTO)
    assert doctor.both_vendors([WORKS, UNSEEN], AUTO)
    assert not doctor.both_vendors([WORKS, BROKEN], AUTO)


def test_doctor_json_is_json() -> None:
    text = json.dumps(doctor.as_json(HOST, [], [WORKS, BROKEN], AUTO, quick=True))
    report = json.loads(text)
    assert report["host"]["recommended_n"] == 2
    assert [one["ok"] for one in report["engines"]] == [True, False]
    assert report["engines"][1]["next_command"] == "mend it"
