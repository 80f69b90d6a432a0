# SPDX-License-Identifier: MIT
"""What a guest's /proc/cpuinfo says, from recorded ones."""

from __future__ import annotations

from dunelab.cli.host import recommended_workers
from dunelab.machine.survey import parse_cpuinfo
from dunelab.spec import Vendor

SKYLAKE = """\
processor\t: 0
model name\t: Intel(R) Core(TM) i7-7800X CPU @ 3.50GHz
flags\t\t: fpu vme de pse tsc msr vmx smep
vmx flags\t: vnmi preemption_timer ept vpid unrestricted_guest

processor\t: 1
model name\t: Intel(R) Core(TM) i7-7800X CPU @ 3.50GHz
flags\t\t: fpu vme de pse tsc msr vmx smep
"""

TCG = """\
processor\t: 0
model name\t: QEMU TCG CPU version 2.5+
flags\t\t: fpu svm npt vgif lahf_lm
"""


def test_intel() -> None:
    seen = parse_cpuinfo(SKYLAKE, Vendor.INTEL)
    assert seen.has_extension
    assert seen.cpus == 2
    assert seen.model.startswith("Intel(R) Core(TM) i7-7800X")
    assert seen.features == ("vnmi", "preemption_timer", "ept", "vpid", "unrestricted_guest")


def test_amd() -> None:
    seen = parse_cpuinfo(TCG, Vendor.AMD)
    assert (seen.has_extension, seen.features) == (True, ("npt", "vgif"))


def test_the_other_vendor_is_not_there() -> None:
    assert not parse_cpuinfo(TCG, Vendor.INTEL).has_extension
    assert not parse_cpuinfo("", Vendor.AMD).has_extension


def test_workers_follow_cores_and_memory() -> None:
    assert recommended_workers(8, 32000) == 8
    assert recommended_workers(8, 2000) == 2
    assert recommended_workers(1, 100) == 1
