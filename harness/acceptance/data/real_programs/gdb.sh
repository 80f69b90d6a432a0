# SPDX-License-Identifier: MIT
# gdb itself: breakpoints, threads, a watchpoint, a process it attaches to.

cp "$DATA/hello.c" .
gcc -g -O0 -o hello hello.c -lm || exit
say() { gdb -nx -batch "$@" 2>/dev/null </dev/null; }
say -ex 'break thread' -ex run -ex 'print own' -ex 'info threads' -ex bt -ex continue ./hello |
	grep -o -e '^\$1 = .*' -e 'thread (arg' -e 'hello [0-9].*' -e 'exited with code .*'
say -ex 'break main' -ex run -ex 'watch got' -ex continue -ex continue -ex kill ./hello |
	grep -e '^Old value' -e '^New value' | head -2
say -ex 'handle SIGUSR1 stop print' -ex run -ex 'print $_siginfo.si_signo' -ex continue ./hello |
	grep -e '^\$1' -e '^hello'
sleep 100 &
say -ex 'info proc' -ex 'print $_exitcode' -ex detach -p $! | grep -c -e '^exe' -e void
kill $!
wait $! 2>/dev/null
echo "status $?"
