# SPDX-License-Identifier: MIT
"""Third-party suites run natively and under dune-run, and compared test by test.

``suites`` says what is run and how its end is read, ``runner`` runs it in
guests, ``state`` remembers, ``model`` compares, ``report`` prints.
"""
