# SPDX-License-Identifier: MIT
# Forks and pipes, checked by itself.
# says: ran
if ! stress-ng --fork 1 --fork-ops 100 --pipe 1 --pipe-ops 1000 --verify >log 2>&1; then
	cat log
	exit 1
fi
echo ran
