# SPDX-License-Identifier: MIT
"""Costs: which metrics make a row, their table and plot, baselines and the gate."""
