#!/bin/sh
# SPDX-License-Identifier: MIT
# Compile, link and run api.c in every way a program may be built.
set -eu

out=$O/check
mkdir -p "$out"
flags="-Wall -Wextra -Werror -O2 -I$O/include"

run()
{
	name=$1
	shift
	"$@"
	LD_LIBRARY_PATH=$O "$out/$name" > "$out/$name.txt"
	grep -qx dune_printf "$out/$name.txt"
	echo "ok $name"
}

run static	$CC $flags -static -no-pie -o "$out/static" check/api.c "$O/libdune.a"
run static-pie	$CC $flags -static-pie -o "$out/static-pie" check/api.c "$O/libdune.a"
run no-pie	$CC $flags -no-pie -fno-pie -o "$out/no-pie" check/api.c "$O/libdune.a"
run pie		$CC $flags -pie -fPIE -o "$out/pie" check/api.c "$O/libdune.a"
run shared	$CC $flags -o "$out/shared" check/api.c -L"$O" -ldune
run cxx		$CXX $flags -std=c++11 -o "$out/cxx" -x c++ check/api.c -x none "$O/libdune.a"
run cxx-shared	$CXX $flags -o "$out/cxx-shared" -x c++ check/api.c -x none -L"$O" -ldune

# Only the public names leave the shared library.
${NM:-nm} -D --defined-only "$O/libdune.so" | awk '{ print $3 }' | sort > "$out/symbols"
if grep -v -x -e 'dune_.*' -e pgroot -e pages -e num_pages -e phys_limit -e mmap_base \
	-e stack_base -e __dune_vm_page_walk "$out/symbols"; then
	echo "libdune.so exports the names above" >&2
	exit 1
fi
echo "ok symbols"

# Each function has a page, and each variable is on one.
inline=$(sed -n 's/^static inline .*[ *]\([a-z_0-9]*\)(.*/\1/p' "$O"/include/libdune/*.h)
for name in $inline $(${NM:-nm} -D --defined-only "$O/libdune.so" | awk '$2 == "T" { print $3 }'); do
	if [ ! -s "$O/man/$name.3" ]; then
		echo "$name has no manual page: its comment in the header is missing" >&2
		exit 1
	fi
done
for name in $(${NM:-nm} -D --defined-only "$O/libdune.so" | awk '$2 != "T" { print $3 }'); do
	if ! grep -q "^extern .*[ *]$name[,;]" "$O"/man/libdune-*.3; then
		echo "$name is on no manual page: its comment in the header is missing" >&2
		exit 1
	fi
done
echo "ok manual pages"
