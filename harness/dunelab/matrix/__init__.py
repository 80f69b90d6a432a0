# SPDX-License-Identifier: MIT
"""The module and its tests over many kernels: plan, builds, cells, one table.

``model``, ``plan``, ``budget``, ``apimap`` and ``report`` are pure; ``builds`` and
``cells`` do the work, ``record`` keeps what is done already.  A cell is run by the
pytest plugin, in a process of its own.
"""
