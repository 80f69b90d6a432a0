# SPDX-License-Identifier: MIT
# What /proc is for, and who is process 1.
# says: 2
# says: serve
find /proc/self/task -maxdepth 1 | wc -l
ps -o comm= -p 1
