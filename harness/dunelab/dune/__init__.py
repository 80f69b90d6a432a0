# SPDX-License-Identifier: MIT
"""What is Dune's own on top of the general machine layer.

``guest`` loads and unloads dune.ko in a running guest, ``lab`` puts images,
engines and machines together for the tests and the commands.
"""
