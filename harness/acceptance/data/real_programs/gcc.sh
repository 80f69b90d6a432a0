# SPDX-License-Identifier: MIT
# Compile, link in three ways, run.

cp "$DATA/hello.c" .
gcc -O2 -Wall -c hello.c && gcc -o hello hello.o -lm && ./hello a
echo "status $?"
gcc -static -o static hello.o -lm && ./static b
echo "status $?"
echo 'int answer(void) { return 42; }' >answer.c
echo 'int answer(void); int main(void) { return answer(); }' >ask.c
gcc -shared -fPIC -o libanswer.so answer.c && gcc -o ask ask.c -L. -lanswer -Wl,-rpath,"$PWD" && ./ask
echo "status $?"
gcc -S -O3 -o - hello.c | sha256sum
gcc -o nothing nothing.c 2>/dev/null
echo "status $?"
objdump -d hello.o | grep -c call
