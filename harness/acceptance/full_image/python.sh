# SPDX-License-Identifier: MIT
# Two modules of CPython's own test package.
# says: Result: SUCCESS
python3 -m test -q test_wait3 test_resource | tail -n 1
