# SPDX-License-Identifier: MIT
"""The guest's kernel command line, as one pure function."""

from __future__ import annotations

from collections.abc import Iterable

from dunelab.errors import UsageError
from dunelab.spec import EngineName

_COMMON = (
    "console=ttyS0,115200",
    # A panicked guest resets at once: engines are told to end at a reset, so
    # that a panic is seen as the end of the process and not as a silence.
    "panic=-1",
    # Warnings and worse reach the console, which is what the splat detector reads.
    "loglevel=5",
    # The guests have no firmware seed; without this sshd may wait for entropy.
    "random.trust_cpu=on",
)

BOCHS_TSC_KHZ = 200_000
"""Bochs' time stamp counter, which counts instructions: its ``ips`` in kHz.

Told so, the guest's clocks agree.  Otherwise it believes the CPU model's
nominal 3.5 GHz, and every udelay in a driver's probe runs 17 times too long:
four seconds of a boot to SSH.
"""

_PER_ENGINE: dict[EngineName, tuple[str, ...]] = {
    EngineName.KVM: (),
    EngineName.TCG: (),
    EngineName.BOCHS: (f"tsc_early_khz={BOCHS_TSC_KHZ}",),
}


def kernel_cmdline(engine: EngineName, extra: Iterable[str] = ()) -> str:
    """The command line for a guest on ``engine``; ``extra`` comes last and wins."""
    words = [*_COMMON, *_PER_ENGINE[engine], *extra]
    for word in words:
        if not word or any(character.isspace() for character in word):
            raise UsageError(f"kernel parameter {word!r} must be one word")
    return " ".join(words)
