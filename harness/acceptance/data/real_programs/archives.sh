# SPDX-License-Identifier: MIT
# tar with three compressors, xz with two threads.

mkdir d
seq 1 30000 >d/numbers
cp "$DATA"/*.py d
ln -s numbers d/link
tar --mtime=@0 --sort=name --owner=0 --group=0 -cf d.tar d
sha256sum d.tar
xz -T2 --block-size=64KiB -kc d.tar | xz -dc | cmp - d.tar && echo same
gzip -9nc d.tar | sha256sum
bzip2 -c d.tar | sha256sum
for z in gzip bzip2 xz; do
	tar --$z -cf d.t d && tar --$z -tf d.t | sort | sha256sum
done
mkdir out && tar -xf d.t -C out && diff -r d out/d && echo equal
echo garbage | xz -dc 2>/dev/null
echo "status $?"
