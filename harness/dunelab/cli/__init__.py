# SPDX-License-Identifier: MIT
"""The ``dunelab`` command: one module per subcommand, see main.py."""
