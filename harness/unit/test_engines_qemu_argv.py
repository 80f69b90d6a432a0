# SPDX-License-Identifier: MIT
"""QEMU's command line, compared word by word."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from machine_fakes import fake_spec, with_disk

from dunelab.engines.qemu_argv import (
    NO_BMI2,
    Wiring,
    guest_parameters,
    qemu_argv,
    shell_text,
    state_key,
    with_cpu_model,
)
from dunelab.errors import UsageError
from dunelab.spec import Cell, EngineName, MachineSpec, Vendor

SPEC = fake_spec(Path("/run/m"))
KVM = dataclasses.replace(SPEC, cell=Cell(EngineName.KVM, Vendor.INTEL, "debian-6.1"))

GOLDEN_TCG = """
qemu-system-x86_64 -name dunelab-tcg-amd-debian-6.1 -nodefaults -no-user-config -display none
-no-reboot -machine pc -accel tcg,thread=multi -cpu max -smp 3 -m 512M
-kernel /img/vmlinuz -initrd /img/initrd -append 'console=ttyS0 quiet'
-netdev user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-10.0.2.15:22
-device virtio-net-pci,netdev=net0,romfile=
-object rng-random,id=rng0,filename=/dev/urandom -device virtio-rng-pci,rng=rng0
-chardev socket,id=console,fd=7 -serial chardev:console
-chardev socket,id=qmp,fd=9 -mon chardev=qmp,mode=control
"""


def argv(spec: MachineSpec, **more: object) -> list[str]:
    wiring = Wiring(7, 9)
    return qemu_argv(spec, cmdline="console=ttyS0 quiet", wiring=wiring, **more)


def test_tcg_golden() -> None:
    assert argv(SPEC) == shlex.split(GOLDEN_TCG)


def test_the_cpu_is_named_as_the_version_needs_it() -> None:
    assert with_cpu_model(SPEC, "7.2.22 (Debian)").cpu_model == "max"
    assert with_cpu_model(SPEC, "5.2.0 (Debian)").cpu_model == NO_BMI2
    assert with_cpu_model(KVM, "5.2.0").cpu_model == "host"
    named = dataclasses.replace(SPEC, cpu_model="qemu64")
    assert with_cpu_model(named, "5.2.0").cpu_model == "qemu64"


def test_a_parameter_for_one_model_of_cpu() -> None:
    needy = dataclasses.replace(SPEC.image, append_on=(("tigerlake", "its=off"),))
    spec = dataclasses.replace(SPEC, cpus=1, image=needy, append=("quiet",))
    assert guest_parameters(spec) == ("quiet",)
    assert guest_parameters(dataclasses.replace(spec, cpu_model="max")) == ("quiet",)
    on_it = dataclasses.replace(spec, cpu_model="tigerlake")
    assert guest_parameters(on_it) == ("its=off", "quiet")


def test_kvm_differs_in_accelerator_and_cpu_only() -> None:
    expected = GOLDEN_TCG.replace("tcg-amd", "kvm-intel").replace("tcg,thread=multi", "kvm")
    expected = expected.replace("-cpu max", "-cpu host").replace("-smp 3", "-smp 2")
    assert argv(KVM) == shlex.split(expected)


def test_cpu_0_is_spare_where_another_cpu_could_spoil_it() -> None:
    asked = dataclasses.replace(SPEC, append=("quiet",))
    assert guest_parameters(asked) == ("isolcpus=domain,0", "quiet")
    for spec in (dataclasses.replace(asked, cpus=1), dataclasses.replace(KVM, append=("quiet",))):
        assert guest_parameters(spec) == ("quiet",)
    words = argv(dataclasses.replace(SPEC, cpus=1))
    assert words[words.index("-smp") + 1] == "1"


def test_a_kernel_that_cannot_keep_cpu_0_spare_is_refused() -> None:
    spec = dataclasses.replace(SPEC, image=dataclasses.replace(SPEC.image, isolates_cpus=False))
    with pytest.raises(UsageError, match="without CONFIG_CPU_ISOLATION"):
        argv(spec)
    assert argv(dataclasses.replace(spec, cpus=1))
    assert argv(dataclasses.replace(spec, cell=KVM.cell))


def test_icount_is_single_threaded() -> None:
    words = argv(dataclasses.replace(SPEC, icount=True, cpus=1))
    assert words[words.index("-accel") + 1] == "tcg,thread=single"
    assert words[words.index("-icount") + 1] == "shift=0,sleep=off"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (dataclasses.replace(SPEC, icount=True), "one CPU"),
        (dataclasses.replace(KVM, icount=True, cpus=1), "needs the tcg engine"),
        (
            dataclasses.replace(SPEC, cell=Cell(EngineName.BOCHS, Vendor.INTEL, "k")),
            "not a QEMU engine",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(spec: MachineSpec, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        argv(spec)


def test_a_spec_overrides_the_cpu() -> None:
    words = argv(dataclasses.replace(SPEC, cpu_model="EPYC"))
    assert words[words.index("-cpu") + 1] == "EPYC"
    needy = dataclasses.replace(SPEC.image, tcg_cpu="max,-cx16")
    words = argv(dataclasses.replace(SPEC, image=needy))
    assert words[words.index("-cpu") + 1] == "max,-cx16"
    words = argv(dataclasses.replace(SPEC, image=needy, cpu_model="EPYC"))
    assert words[words.index("-cpu") + 1] == "EPYC"


def test_the_full_guest_has_a_disk_that_many_may_read() -> None:
    words = argv(with_disk(SPEC, "/img/a,b/root.squashfs"))
    added = [word for word in words if word not in argv(SPEC)]
    assert added == [
        "-drive",
        "if=none,id=root,format=raw,readonly=on,file=/img/a,,b/root.squashfs",
        "virtio-blk-pci,drive=root",
    ]
    # What was there before stays where it was: cards keep their slots.
    assert words.index("-drive") > words.index("virtio-rng-pci,rng=rng0")


def test_a_restored_machine_has_the_same_shape() -> None:
    assert argv(SPEC, incoming=True) == [*argv(SPEC), "-incoming", "defer"]


def test_without_wiring_the_console_is_the_terminal() -> None:
    words = qemu_argv(SPEC, cmdline="x", wiring=Wiring())
    assert words[-2:] == ["-serial", "mon:stdio"]
    assert not any("fd=" in word for word in words)


def test_shell_text_is_the_same_vector() -> None:
    assert shlex.split(shell_text(argv(SPEC)).replace("\\\n", "")) == argv(SPEC)


def test_state_key_changes_with_everything_that_matters() -> None:
    def key(spec: MachineSpec, cmdline: str = "c", version: str = "7.2") -> str:
        return state_key(spec, cmdline=cmdline, version=version)

    keys = [
        key(SPEC),
        key(SPEC, cmdline="c nosmp"),
        key(SPEC, version="8.0"),
        key(dataclasses.replace(SPEC, cpus=3)),
        key(dataclasses.replace(SPEC, memory_mib=256)),
        key(dataclasses.replace(SPEC, image=dataclasses.replace(SPEC.image, digest="other"))),
        key(with_disk(SPEC, "/img/root.squashfs")),
    ]
    assert len(set(keys)) == len(keys)
    assert key(dataclasses.replace(SPEC, workdir=Path("/elsewhere"))) == keys[0]
