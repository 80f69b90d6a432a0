# SPDX-License-Identifier: MIT
"""What a booted guest sees of its CPU: for ``dunelab doctor`` and for reports."""

from __future__ import annotations

from dataclasses import dataclass

from dunelab.deadline import Deadline
from dunelab.machine.machine import Machine
from dunelab.spec import Vendor

_FLAG = {Vendor.INTEL: "vmx", Vendor.AMD: "svm"}

_COMMAND = "cat /proc/cpuinfo"

# Linux lists VT-x capabilities (read from the VMX MSRs) on a line of their
# own; SVM ones (CPUID 8000000A.EDX) are among the flags.
_SVM_FLAGS = (
    *("npt", "lbrv", "svm_lock", "nrip_save", "tsc_scale", "vmcb_clean", "flushbyasid"),
    *("decodeassists", "pausefilter", "pfthreshold", "avic", "v_vmsave_vmload", "vgif"),
    *("x2avic", "v_spec_ctrl", "vnmi", "svme_addr_chk"),
)


@dataclass(frozen=True)
class CpuSurvey:
    """A guest CPU as its kernel describes it."""

    model: str
    has_extension: bool
    features: tuple[str, ...]
    cpus: int


def survey_cpu(machine: Machine, vendor: Vendor) -> CpuSurvey:
    """Read and interpret the guest's /proc/cpuinfo."""
    text = machine.run(_COMMAND, Deadline.after(30, "/proc/cpuinfo"), check=True).stdout
    return parse_cpuinfo(text, vendor)


def parse_cpuinfo(text: str, vendor: Vendor) -> CpuSurvey:
    """What /proc/cpuinfo says of a vendor's virtualisation extension."""
    fields: dict[str, str] = {}
    cpus = 0
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            continue
        cpus += name.strip() == "processor"
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", "").split()
    if vendor is Vendor.INTEL:
        features = tuple(fields.get("vmx flags", "").split())
    else:
        features = tuple(flag for flag in flags if flag in _SVM_FLAGS)
    return CpuSurvey(
        model=fields.get("model name", "unknown"),
        has_extension=_FLAG[vendor] in flags,
        features=features,
        cpus=cpus,
    )
