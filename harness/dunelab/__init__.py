# SPDX-License-Identifier: MIT
"""A test bench for kernel modules that need VT-x or SVM, on machines that have neither."""
