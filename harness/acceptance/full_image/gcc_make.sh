# SPDX-License-Identifier: MIT
# Two files compiled at once, for glibc and for musl.
# says: 6765
# says: 6765
cat >fib.c <<'END'
int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
END
cat >main.c <<'END'
#include <stdio.h>
int fib(int n);
int main(void) { printf("%d\n", fib(20)); }
END
printf 'all: main.o fib.o\n\t$(CC) -o prog $^\n' >Makefile
make -j2 >log
./prog
make -j2 -B CC='musl-gcc -static' >log
./prog
