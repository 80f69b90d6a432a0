# SPDX-License-Identifier: MIT
"""Asks /dev/kvm one question and prints the answer as JSON.  Run as a child.

KVM_GET_SUPPORTED_CPUID says what a guest's CPU could have: vmx is CPUID
1.ECX[5], svm 80000001.ECX[2].  The module parameters under /sys may promise
nesting that the hardware below does not have, so they are not asked.

Only the standard library is used: this must start quickly, and may be killed.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import sys

KVM_GET_API_VERSION = 0xAE00
# _IOWR(0xAE, 0x05, struct kvm_cpuid2): the header of 8 bytes is what is encoded.
KVM_GET_SUPPORTED_CPUID = 0xC008AE05

# struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, 3 of padding.
_ENTRY = struct.Struct("<10I")
_HEADER = struct.Struct("<2I")
_MOST_ENTRIES = 512


def vendor_and_flags(entries: list[tuple[int, ...]]) -> dict[str, object]:
    """What matters of a CPUID table."""
    found: dict[str, object] = {"vendor": "", "vmx": False, "svm": False}
    for function, _index, _flags, _eax, ebx, ecx, edx, *_padding in entries:
        if function == 0:
            found["vendor"] = struct.pack("<3I", ebx, edx, ecx).decode("ascii", "replace")
        elif function == 1:
            found["vmx"] = bool(ecx >> 5 & 1)
        elif function == 0x80000001:
            found["svm"] = bool(ecx >> 2 & 1)
    return found


def supported_cpuid(device: int) -> list[tuple[int, ...]]:
    """The table KVM_GET_SUPPORTED_CPUID returns, whatever its length."""
    count = 128
    while True:
        table = bytearray(_HEADER.pack(count, 0) + bytes(_ENTRY.size * count))
        try:
            fcntl.ioctl(device, KVM_GET_SUPPORTED_CPUID, table)
        except OSError as error:
            if error.errno != errno.E2BIG or count >= _MOST_ENTRIES:
                raise
            count *= 2
            continue
        used = _HEADER.unpack_from(table)[0]
        return [_ENTRY.unpack_from(table, _HEADER.size + i * _ENTRY.size) for i in range(used)]


def main(path: str) -> int:
    """Print the answer; an errno is an answer too."""
    answer: dict[str, object]
    try:
        device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        answer = {"api": fcntl.ioctl(device, KVM_GET_API_VERSION, 0)}
        answer |= vendor_and_flags(supported_cpuid(device))
    except OSError as error:
        answer = {"errno": errno.errorcode.get(error.errno or 0, str(error.errno))}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
