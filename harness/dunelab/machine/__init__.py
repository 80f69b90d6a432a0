# SPDX-License-Identifier: MIT
"""A booted guest as tests see it: console, SSH, and what it died of.

May import: engines, spec, errors, deadline.  Knows nothing of Dune.
"""
