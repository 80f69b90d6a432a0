# SPDX-License-Identifier: MIT
# Job control: two in the background, one is ended, one is left.
# says: 143
# says: 1
set -m
sleep 100 &
sleep 100 &
kill %1
wait %1 || echo $?
jobs -r | wc -l
kill %2
