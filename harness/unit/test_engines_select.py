# SPDX-License-Identifier: MIT
"""Who chooses: only ``auto``."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dunelab.engines.base import Availability
from dunelab.engines.select import choose, default_vendor, pick
from dunelab.engines.tcg import TcgEngine
from dunelab.errors import EngineUnavailable, UsageError
from dunelab.spec import EngineName, Vendor


@dataclass
class Offers:
    """An engine that only answers ``check``."""

    name: EngineName
    working: tuple[Vendor, ...]
    vendors: tuple[Vendor, ...] = (Vendor.INTEL, Vendor.AMD)

    def check(self, vendor: Vendor) -> Availability:
        return Availability(vendor in self.working, "because", "do this")


def engines(*kvm: Vendor, bochs: bool = True) -> dict[EngineName, object]:
    both = (Vendor.INTEL, Vendor.AMD)
    return {
        EngineName.KVM: Offers(EngineName.KVM, kvm),
        EngineName.TCG: Offers(EngineName.TCG, (Vendor.AMD,), (Vendor.AMD,)),
        EngineName.BOCHS: Offers(EngineName.BOCHS, both if bochs else ()),
    }


@pytest.mark.parametrize(
    ("kvm", "vendor", "expected"),
    [
        ((), Vendor.AMD, EngineName.TCG),
        ((), Vendor.INTEL, EngineName.BOCHS),
        ((Vendor.INTEL,), Vendor.INTEL, EngineName.KVM),
        ((Vendor.INTEL,), Vendor.AMD, EngineName.TCG),
        ((Vendor.AMD,), Vendor.AMD, EngineName.KVM),
        ((Vendor.AMD,), Vendor.INTEL, EngineName.BOCHS),
    ],
)
def test_auto(kvm: tuple[Vendor, ...], vendor: Vendor, expected: EngineName) -> None:
    there = engines(*kvm)
    assert pick(there, vendor) is expected
    assert choose(there, "auto", vendor).name is expected


def test_a_name_is_never_replaced() -> None:
    with pytest.raises(EngineUnavailable, match="engine kvm cannot do vendor intel") as caught:
        choose(engines(), "kvm", Vendor.INTEL)
    assert caught.value.next_command == "do this"


def test_auto_without_its_emulator_is_an_error() -> None:
    with pytest.raises(EngineUnavailable, match="engine bochs"):
        choose(engines(bochs=False), "auto", Vendor.INTEL)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="no engine 'xen'"):
        choose(engines(), "xen", Vendor.INTEL)


def test_tcg_has_no_vtx_and_says_what_has() -> None:
    there = {**engines(), EngineName.TCG: TcgEngine()}
    with pytest.raises(EngineUnavailable, match="QEMU has no VT-x in TCG") as caught:
        choose(there, "tcg", Vendor.INTEL)
    assert "--engine bochs" in str(caught.value)


def test_the_vendor_a_name_alone_means() -> None:
    assert default_vendor(engines(), "auto") is Vendor.AMD
    assert default_vendor(engines(Vendor.INTEL), "auto") is Vendor.INTEL
    assert default_vendor(engines(), "tcg") is Vendor.AMD
    assert default_vendor(engines(), "bochs") is Vendor.INTEL
    assert default_vendor(engines(Vendor.AMD), "kvm") is Vendor.AMD
