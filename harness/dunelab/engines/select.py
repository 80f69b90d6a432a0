# SPDX-License-Identifier: MIT
"""Chooses engines.  Only ``auto`` chooses; a name means that engine or an error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dunelab.engines.base import Availability, Engine
from dunelab.engines.bochs import BochsBinary, BochsEngine
from dunelab.engines.kvm import KvmEngine
from dunelab.engines.tcg import TcgEngine
from dunelab.errors import EngineUnavailable, UsageError
from dunelab.spec import EngineName, GuestImage, Vendor

AUTO = "auto"
ENGINE_CHOICES = (AUTO, *(name.value for name in EngineName))

Engines = Mapping[EngineName, Engine]

_EMULATOR = {Vendor.AMD: EngineName.TCG, Vendor.INTEL: EngineName.BOCHS}


class ImageSource(Protocol):
    """What the engines need of ``dunelab.images.Store``."""

    def bochs(self) -> BochsBinary: ...

    def iso(self, image: GuestImage, cmdline: str) -> Path: ...


def all_engines(images: ImageSource) -> Engines:
    """Every engine there is; making them costs nothing."""
    return {
        EngineName.KVM: KvmEngine(),
        EngineName.TCG: TcgEngine(),
        EngineName.BOCHS: BochsEngine(images.bochs, images.iso),
    }


def pick(engines: Engines, vendor: Vendor) -> EngineName:
    """What ``auto`` means for a vendor: a KVM that really nests, else its emulator."""
    if engines[EngineName.KVM].check(vendor).ok:
        return EngineName.KVM
    return _EMULATOR[vendor]


def default_vendor(engines: Engines, engine: str) -> Vendor:
    """The vendor meant by an engine's name alone."""
    if engine == AUTO:
        # The emulator that starts soonest, unless the host itself nests.
        for vendor in Vendor:
            if engines[EngineName.KVM].check(vendor).ok:
                return vendor
        return Vendor.AMD
    wanted = engines[parse(engine)]
    for vendor in wanted.vendors:
        if wanted.check(vendor).ok:
            return vendor
    return wanted.vendors[0]


def choose(engines: Engines, engine: str, vendor: Vendor) -> Engine:
    """The engine for a request, checked; raises EngineUnavailable with what to type."""
    name = pick(engines, vendor) if engine == AUTO else parse(engine)
    chosen = engines[name]
    found = chosen.check(vendor)
    if not found.ok:
        raise unavailable(name, vendor, found)
    return chosen


def parse(engine: str) -> EngineName:
    """An engine's name from an option."""
    try:
        return EngineName(engine)
    except ValueError as error:
        raise UsageError(
            f"there is no engine {engine!r}; there are {', '.join(ENGINE_CHOICES)}"
        ) from error


def unavailable(name: EngineName, vendor: Vendor, found: Availability) -> EngineUnavailable:
    """The error for an engine that was asked for and is not there."""
    return EngineUnavailable(
        f"engine {name} cannot do vendor {vendor} here: {found.reason}",
        next_command=found.next_command,
    )
