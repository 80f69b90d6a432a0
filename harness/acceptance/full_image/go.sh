# SPDX-License-Identifier: MIT
# fzf searches on all CPUs.
# says: 49999
seq 50000 | fzf --filter=49999 --no-sort
