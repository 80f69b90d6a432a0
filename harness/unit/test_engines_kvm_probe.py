# SPDX-License-Identifier: MIT
"""The probe of /dev/kvm with stand-ins for the device: it judges, and never hangs."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import time
from pathlib import Path

import pytest

from dunelab.engines import kvm_probe, kvm_query
from dunelab.engines.kvm import KvmEngine
from dunelab.engines.kvm_probe import KvmVerdict, bounded, judge, probe, probe_rom, run_argv
from dunelab.errors import EngineUnavailable
from dunelab.spec import Vendor

HANG = [sys.executable, "-c", "import time; time.sleep(60)"]
EXIT_85 = [sys.executable, "-c", "raise SystemExit(85)"]


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "kvm"
    path.touch()
    return path


def answering(**answer: object) -> list[str]:
    return [sys.executable, "-c", f"print({json.dumps(json.dumps(answer))})"]


INTEL = answering(api=12, vendor="GenuineIntel", vmx=True, svm=False)


def test_nested_and_running(device: Path) -> None:
    verdict = probe(device, query=INTEL, run=EXIT_85)
    assert (verdict.nests, verdict.host_vendor) == (Vendor.INTEL, "GenuineIntel")


def test_a_hanging_query_is_reported_within_three_seconds(device: Path) -> None:
    started = time.monotonic()
    verdict = probe(device, query=HANG)
    assert time.monotonic() - started < 3
    assert verdict.nests is None
    assert "hangs" in verdict.reason


def test_a_guest_that_hangs_is_no_kvm(device: Path) -> None:
    verdict = probe(device, query=INTEL, run=HANG, run_seconds=0.5)
    assert verdict.nests is None
    assert "did not end within 0.5 s" in verdict.reason


def test_a_guest_that_fails_is_quoted(device: Path) -> None:
    failing = [sys.executable, "-c", "print('failed to set MSR 0x10a'); raise SystemExit(1)"]
    verdict = probe(device, query=INTEL, run=failing)
    assert verdict.nests is None
    assert "failed to set MSR 0x10a" in verdict.reason


def test_present_but_not_nesting(device: Path) -> None:
    verdict = probe(device, query=answering(api=12, vendor="AuthenticAMD", vmx=False, svm=False))
    assert verdict.nests is None
    assert "neither vmx nor svm" in verdict.reason


def test_an_errno_is_an_answer(device: Path) -> None:
    assert "EBUSY" in probe(device, query=answering(errno="EBUSY")).reason


def test_rubbish_is_quoted(device: Path) -> None:
    assert "rubbish" in probe(device, query=[sys.executable, "-c", "print('rubbish')"]).reason


def test_the_real_query_on_what_is_no_kvm(device: Path) -> None:
    assert "ENOTTY" in probe(device, query_seconds=20).reason


def test_absent(tmp_path: Path) -> None:
    verdict = probe(tmp_path / "kvm")
    assert "does not exist" in verdict.reason
    assert verdict.next_command == kvm_probe.LOAD_MODULE


@pytest.mark.skipif(os.getuid() == 0, reason="root may open everything")
def test_forbidden(device: Path) -> None:
    device.chmod(0)
    verdict = probe(device)
    assert "may not be opened" in verdict.reason
    assert verdict.next_command == kvm_probe.UDEV_RULE


def test_the_way_in_depends_on_who_owns_the_device(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "group", lambda self: "kvm")
    device.chmod(0o660)
    assert kvm_probe._access_command(device) == kvm_probe.JOIN_GROUP
    device.chmod(0o600)
    assert kvm_probe._access_command(device) == kvm_probe.UDEV_RULE


def test_what_no_command_mends_is_marked(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"vendor": "GenuineIntel", "vmx": False, "svm": False}
    monkeypatch.setattr(kvm_probe, "_host_has_extension", lambda: False)
    assert not judge(device, answer).mendable
    monkeypatch.setattr(kvm_probe, "_host_has_extension", lambda: True)
    assert judge(device, answer).mendable
    assert "kvm_intel nested=1" in str(judge(device, answer).next_command)


def test_cpuid_bits() -> None:
    words = struct.unpack("<3I", b"AuthcAMDenti")
    table = [
        (0, 0, 0, 16, words[0], words[1], words[2], 0, 0, 0),
        (1, 0, 0, 0, 0, 1 << 5, 0, 0, 0, 0),
        (0x80000001, 0, 0, 0, 0, 1 << 2, 0, 0, 0, 0),
    ]
    assert kvm_query.vendor_and_flags(table) == {
        "vendor": "AuthenticAMD",
        "vmx": True,
        "svm": True,
    }
    assert not kvm_query.vendor_and_flags([(1, 0, 0, 0, 0, ~(1 << 5), 0, 0, 0, 0)])["vmx"]


def test_the_ioctl_number_is_the_kernels() -> None:
    # _IOWR('\xae', 0x05, struct kvm_cpuid2): direction 3, size 8.
    assert kvm_query.KVM_GET_SUPPORTED_CPUID == 3 << 30 | 8 << 16 | 0xAE << 8 | 0x05


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs QEMU")
def test_the_probe_guest_ends_as_it_should(tmp_path: Path) -> None:
    rom = tmp_path / "probe.rom"
    rom.write_bytes(probe_rom())
    assert bounded(run_argv(rom, "tcg", "max"), 30).status == kvm_probe._EXIT_STATUS


def test_a_missing_program_is_an_answer() -> None:
    assert bounded(["/nonexistent/program"], 1).status == 127


def test_the_engine_asks_once_and_says_which_vendor() -> None:
    asked = []

    def once() -> KvmVerdict:
        asked.append(1)
        return KvmVerdict(Vendor.INTEL, "nests", None, "GenuineIntel")

    engine = KvmEngine(once)
    refused = engine.check(Vendor.AMD)
    assert not refused.ok
    assert "nests intel only" in refused.reason
    assert engine.check(Vendor.AMD) == refused
    assert len(asked) == 1


def test_starting_what_does_not_nest_is_unavailable(tmp_path: Path) -> None:
    from machine_fakes import fake_spec

    from dunelab.deadline import Deadline

    engine = KvmEngine(lambda: KvmVerdict(None, "hangs", "use another"))
    with pytest.raises(EngineUnavailable, match="hangs") as caught:
        engine.start(fake_spec(tmp_path), Deadline.after(1, "start"))
    assert caught.value.next_command == "use another"
