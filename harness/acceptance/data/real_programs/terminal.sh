# SPDX-License-Identifier: MIT
# An interactive shell on a terminal of its own: Ctrl-Z, bg, fg, Ctrl-C.

python3 "$DATA/terminal.py"
