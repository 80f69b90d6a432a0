# SPDX-License-Identifier: MIT
"""Engine drivers: one per way to execute a guest, behind one protocol (base.py).

May import: spec, errors, deadline, images.  Knows nothing of Dune, SSH or tests.
"""
