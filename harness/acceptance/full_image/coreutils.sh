# SPDX-License-Identifier: MIT
# Five programs in a pipe.
# says: 1163661111 23893
seq 5000 | sort -r | tac | sort -n | cksum
