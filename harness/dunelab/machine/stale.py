# SPDX-License-Identifier: MIT
"""A kernel that died of an int3 its memory does not hold: QEMU's fault, and provably so.

Linux puts an int3 where it is about to change code and takes it away again.  A
store to memory that QEMU has translated code of first drops the translations
and then writes (``notdirty_write()`` in its accel/tcg/cputlb.c): a CPU that
translates between the two keeps the int3 for good.  The proof is the oops
itself: it prints the bytes as memory has them, and in front of the marked one,
where an int3 that trapped has to be, stands something else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dunelab.machine.watch import SplatLike
from dunelab.spec import EngineName

INT3 = "cc"
_BYTES = re.compile(r"^Code: (?:[0-9a-f]{2} )*?([0-9a-f]{2}) <[0-9a-f]{2}>", re.MULTILINE)


def ran_stale_code(engine: EngineName, cpus: int, splats: Sequence[SplatLike]) -> bool:
    """Whether a CPU of QEMU's executed an int3 that was no longer there.

    It takes QEMU's translator, and a CPU that translates while another one stores.
    """
    return engine is EngineName.TCG and cpus > 1 and any(map(_is_proof, splats))


def _is_proof(splat: SplatLike) -> bool:
    before = _BYTES.search(splat.text)
    return "int3" in splat.title and before is not None and before[1] != INT3
