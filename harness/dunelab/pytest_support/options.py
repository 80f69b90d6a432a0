# SPDX-License-Identifier: MIT
"""From ``--engine --vendor --kernel`` to the cells of a run, as pure functions.

Only ``auto`` chooses.  A combination that was asked for and does not exist is
an error with the next command, never an empty selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dunelab.errors import UsageError
from dunelab.spec import Cell, EngineName, Vendor

AUTO = "auto"

ENGINE_VENDORS = {
    EngineName.KVM: (Vendor.INTEL, Vendor.AMD),
    EngineName.TCG: (Vendor.AMD,),
    EngineName.BOCHS: (Vendor.INTEL, Vendor.AMD),
}
# What runs when nothing is asked for: both vendors' code, on any machine.
DEFAULT_PAIRS = ((EngineName.TCG, Vendor.AMD), (EngineName.BOCHS, Vendor.INTEL))

Picker = Callable[[Vendor], EngineName]


@dataclass(frozen=True)
class CellRequest:
    """What the command line says, as given; empty means not given."""

    engines: tuple[str, ...] = ()
    vendors: tuple[Vendor, ...] = ()
    kernels: tuple[str, ...] = ()


def pairs_of(
    request: CellRequest,
    pick: Picker,
    host_vendors: tuple[Vendor, ...] = (Vendor.INTEL, Vendor.AMD),
) -> tuple[tuple[EngineName, Vendor], ...]:
    """The engine and vendor pairs asked for.

    ``pick`` answers for ``auto``.  ``host_vendors`` are those KVM could nest
    here, which decides what ``--engine kvm`` without a vendor means.
    """
    if not request.engines:
        if not request.vendors:
            return DEFAULT_PAIRS
        return tuple(pair for pair in DEFAULT_PAIRS if pair[1] in request.vendors)
    found: list[tuple[EngineName, Vendor]] = []
    unmet = set(request.vendors)
    for word in request.engines:
        if word == AUTO:
            wanted = request.vendors or (Vendor.AMD, Vendor.INTEL)
            found.extend((pick(vendor), vendor) for vendor in wanted)
            unmet.clear()
            continue
        engine = EngineName(word)
        offered = host_vendors if engine is EngineName.KVM else ENGINE_VENDORS[engine]
        # Bochs prefers VT-x: SVM on it only when asked for by name.
        usual = offered[:1] if engine is EngineName.BOCHS else offered
        chosen = [vendor for vendor in (request.vendors or usual) if vendor in offered]
        found.extend((engine, vendor) for vendor in chosen)
        unmet.difference_update(chosen)
    if unmet or not found:
        engines = ", ".join(request.engines)
        vendors = ", ".join(sorted(unmet or request.vendors)) or "any vendor"
        raise UsageError(
            f"engine {engines} cannot do {vendors}",
            next_command=f"use --engine auto{_vendor_words(request.vendors)}, or: dunelab doctor",
        )
    return tuple(dict.fromkeys(found))


def _vendor_words(vendors: Sequence[Vendor]) -> str:
    return "".join(f" --vendor {vendor}" for vendor in vendors)


def cells_of(
    pairs: Sequence[tuple[EngineName, Vendor]],
    kernels: Sequence[str],
    known: Sequence[str],
    default: str,
) -> tuple[Cell, ...]:
    """The product of the pairs with the kernels, checked against the matrix."""
    for kernel in kernels:
        if kernel not in known:
            raise UsageError(
                f"no kernel '{kernel}' in images/kernels.toml; there are: {', '.join(known)}",
                next_command=f"use --kernel {default}",
            )
    chosen = tuple(dict.fromkeys(kernels)) or (default,)
    return tuple(Cell(engine, vendor, kernel) for kernel in chosen for engine, vendor in pairs)
