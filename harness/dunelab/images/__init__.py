# SPDX-License-Identifier: MIT
"""Everything a guest is made of, built once and kept by content hash.

``store.Store`` is the door; ``cache`` keeps results, ``resolve`` and
``archive`` get packages, ``builder`` compiles, and one file each makes the
kernel module, the guest programs, the initramfs, the boot CD and the emulator.
Nothing here starts a guest.
"""
