# SPDX-License-Identifier: MIT
# Follows children, and sees each write.
# says: hello
# says: 2
strace -f -o log -e trace=write sh -c 'echo hello | cat'
grep -c 'write(1, "hello' log
