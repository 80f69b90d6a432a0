# SPDX-License-Identifier: MIT
"""Bochs' configuration, its log, and the port held for it."""

from __future__ import annotations

import dataclasses
import socket
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from machine_fakes import fake_spec, with_disk

from dunelab.deadline import Deadline
from dunelab.engines.base import EngineFailed
from dunelab.engines.bochs import (
    BochsEngine,
    listens,
    model_in_log,
    reserve_port,
    telling_lines,
)
from dunelab.engines.bochs_rc import BochsFiles, bochs_rc, slirp_conf
from dunelab.errors import EngineUnavailable, UsageError
from dunelab.spec import Cell, EngineName, MachineSpec, Vendor

FILES = BochsFiles(
    iso=Path("/c/boot.iso"),
    share=Path("/c/share"),
    slirp=Path("/w/slirp.conf"),
    log=Path("/w/bochs.log"),
    console=Path("/proc/self/fd/5"),
)

GOLDEN = """\
display_library: nogui
memory: guest=512, host=512
romimage: file="/c/share/BIOS-bochs-latest"
vgaromimage: file="/c/share/VGABIOS-lgpl-latest"
cpu: model=corei7_skylake_x, count=2, quantum=32, ips=200000000, reset_on_triple_fault=0
clock: sync=none, time0=utc
pci: enabled=1, chipset=i440fx, slot1=e1000
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=0
ata0-master: type=cdrom, path="/c/boot.iso", status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev="/proc/self/fd/5"
e1000: card=0, enabled=1, mac=52:54:00:12:34:56, ethmod=slirp, script="/w/slirp.conf"
log: "/w/bochs.log"
panic: action=fatal
error: action=report
info: action=report
debug: action=ignore
speaker: enabled=0
"""

# Lines of a real log (Bochs 3.0, Debian 6.1 guest), the failed entry included.
LOG = """\
00000000000i[CPU0  ] initialized CPU model corei7_skylake_x
00417657254e[CPU0  ] RDMSR: Unknown register 0x1a0
05133367668e[CPU0  ] WRMSR: Unknown register 0x1b0
06563872908i[SER   ] com1: FIFO enabled
07311148006e[CPU0  ] VMENTER FAIL: VMCS guest RFLAGS reserved bits set
08465454907p[ACPI  ] >>PANIC<< ACPI control: soft power off
"""


def spec(vendor: Vendor = Vendor.INTEL, **changes: object) -> MachineSpec:
    cell = Cell(EngineName.BOCHS, vendor, "debian-6.1")
    return fake_spec(Path("/w"), cell=cell, **changes)


def test_bochsrc_golden() -> None:
    assert bochs_rc(spec(), FILES) == GOLDEN


def test_the_full_guest_has_a_disk_that_is_only_read() -> None:
    lines = bochs_rc(with_disk(spec(), "/c/root.squashfs"), FILES).splitlines()
    assert "ata1: enabled=0" not in lines
    assert "ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15" in lines
    (disk,) = [line for line in lines if line.startswith("ata1-master:")]
    assert 'mode=volatile, path="/c/root.squashfs", journal="/w/disk-writes"' in disk
    with pytest.raises(UsageError, match="quote"):
        bochs_rc(with_disk(spec(), '/c/"root'), FILES)


def test_amd_is_a_ryzen_and_a_spec_overrides_it() -> None:
    assert "model=ryzen, count=1" in bochs_rc(spec(Vendor.AMD, cpus=1), FILES)
    assert "model=tigerlake" in bochs_rc(spec(cpu_model="tigerlake"), FILES)


def test_a_big_guest_has_a_smaller_host_buffer() -> None:
    assert "memory: guest=3072, host=2048" in bochs_rc(spec(memory_mib=3072), FILES)


def test_icount_and_odd_paths_are_refused() -> None:
    with pytest.raises(UsageError, match="option of tcg"):
        bochs_rc(spec(icount=True), FILES)
    with pytest.raises(UsageError, match="quote"):
        bochs_rc(spec(), dataclasses.replace(FILES, iso=Path('/a"b')))


def test_slirp_configuration_begins_with_the_line_bochs_demands() -> None:
    lines = slirp_conf(40123).splitlines()
    assert lines[0] == "# slirp config"
    assert lines[-1] == "hostfwd = tcp:127.0.0.1:40123-10.0.2.15:22"


def test_the_log_tells_a_failed_entry_and_not_the_chatter() -> None:
    said = telling_lines(LOG)
    assert said == "07311148006e[CPU0  ] VMENTER FAIL: VMCS guest RFLAGS reserved bits set"


def test_the_model_comes_from_the_log() -> None:
    assert model_in_log(LOG, "corei7_skylake_x") == "corei7_skylake_x"
    old = "00000000000i[      ]   Using pre-defined CPU configuration: ryzen\n"
    assert model_in_log(old, "ryzen") == "ryzen"
    with pytest.raises(EngineFailed, match="emulates corei7_skylake_x"):
        model_in_log(LOG, "tigerlake")
    with pytest.raises(EngineFailed, match="emulates none"):
        model_in_log("", "tigerlake")


def test_a_reserved_port_goes_to_bochs_and_nobody_else() -> None:
    holder = reserve_port()
    address = holder.getsockname()
    assert not listens(address[1])
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(address)
    with socket.socket() as like_libslirp:
        like_libslirp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        like_libslirp.bind(address)
        like_libslirp.listen()
        assert listens(address[1])
    holder.close()


FAKE_BOCHS = f"""#!{sys.executable}
import pathlib, re, socket, sys, time
rc = pathlib.Path(sys.argv[sys.argv.index("-f") + 1]).read_text()
log = pathlib.Path(re.search('log: "(.*)"', rc)[1])
model = re.search("model=([^,]*)", rc)[1]
if model == "absent":
    log.write_text("000p[      ] >>PANIC<< no such model\\n")
    sys.exit(1)
log.write_text(f"000i[CPU0  ] initialized CPU model {{model}}\\n")
conf = pathlib.Path(re.search('script="(.*)"', rc)[1]).read_text()
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(re.search("127.0.0.1:([0-9]*)-", conf)[1])))
server.listen()
with open(re.search('mode=file, dev="(.*)"', rc)[1], "w") as console:
    console.write("hello from the guest\\n")
    console.flush()
    server.settimeout(20)
    server.accept()
with log.open("a") as out:
    out.write("999p[ACPI  ] >>PANIC<< ACPI control: soft power off\\n")
sys.exit(1)
"""


@pytest.fixture
def engine(tmp_path: Path) -> BochsEngine:
    binary = tmp_path / "bochs"
    binary.write_text(FAKE_BOCHS)
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    build = SimpleNamespace(binary=binary, share=tmp_path, version="3.0", origin="own")
    return BochsEngine(lambda: build, lambda image, cmdline: tmp_path / "boot.iso")


def test_a_start_has_console_port_and_facts_and_power_off_is_clean(
    engine: BochsEngine, tmp_path: Path
) -> None:
    import os

    deadline = Deadline.after(20, "the fake")
    instance = engine.start(dataclasses.replace(spec(), workdir=tmp_path / "w"), deadline)
    try:
        assert os.read(instance.console_fd, 100) == b"hello from the guest\n"
        assert instance.facts.cpu_model == "corei7_skylake_x"
        assert instance.poll() is None
        socket.create_connection(instance.ssh_address).close()
        assert instance.wait(deadline) == 0
        assert instance.diagnostics() == ""
    finally:
        instance.kill()
        instance.kill()


def test_a_refused_configuration_is_quoted(engine: BochsEngine, tmp_path: Path) -> None:
    broken = spec(cpu_model="absent")
    with pytest.raises(EngineFailed, match="no such model"):
        engine.start(
            dataclasses.replace(broken, workdir=tmp_path / "w"), Deadline.after(20, "the fake")
        )


def test_an_emulator_that_cannot_be_had_is_not_available() -> None:
    def build() -> SimpleNamespace:
        raise EngineUnavailable("no compiler", next_command="apt-get install it")

    found = BochsEngine(build, lambda image, cmdline: Path("x")).check(Vendor.INTEL)
    assert (found.ok, found.reason, found.next_command) == (
        False,
        "no compiler",
        "apt-get install it",
    )
