# SPDX-License-Identifier: MIT
# A parallel build, a rebuild of what is out of date, and a failing one.

make -s -j2 -f "$DATA/rules.mk"
echo "status $?"
touch part3.c
make -j2 -n -f "$DATA/rules.mk" | grep -c part3
printf 'a b c d: ; @echo $@; exit $${#@}\n' | make -s -k -j2 -f - a b c d 2>/dev/null | sort
echo "status ${PIPESTATUS[1]}"
sha256sum parts.a
