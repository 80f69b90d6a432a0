# SPDX-License-Identifier: MIT
# strace itself: what it starts, what it attaches to, what it changes.

strace -f -o log sh -c 'echo a; true | cat'
echo "status $?"
grep -o 'execve("[^"]*"' log
strace -qq -e trace=write -o log echo hello && sed 's/^[0-9]* *//' log
strace -f -c -o table sh -c 'ls / >/dev/null' && grep -c execve table
strace -qq -e inject=getuid:retval=7 -e trace=none -e signal=none -o /dev/null id -ru 2>/dev/null
sleep 100 &
timeout -s INT 1 strace -qq -o log -p $!
kill $!
wait $! 2>/dev/null
echo "status $?"
strace -qq -o /dev/null sh -c 'kill -TERM $$'
echo "status $?"
