# SPDX-License-Identifier: MIT
# A breakpoint, a variable, a returned value.
# says: $1 = 21
# says: Value returned is $2 = 42
cat >prog.c <<'END'
int twice(int n) { return 2 * n; }
int main(void) { return twice(21); }
END
gcc -g -o prog prog.c
gdb -q -batch -ex 'break twice' -ex run -ex 'print n' -ex finish prog >log
grep -E '^(.1 =|Value)' log
