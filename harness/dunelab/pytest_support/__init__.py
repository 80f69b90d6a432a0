# SPDX-License-Identifier: MIT
"""The parts of the pytest plugin, each usable and tested without pytest's hooks.

``options`` and ``header`` are pure; ``bench`` is the seam to engines, images
and machines; ``pool`` keeps guests; ``watch`` guards a test; ``recorder``
turns reports into results.  ``dunelab.pytest_plugin`` only wires them up.
"""
