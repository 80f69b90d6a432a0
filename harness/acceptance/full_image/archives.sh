# SPDX-License-Identifier: MIT
# There and back through each compressor.
# says: xz
# says: gzip
# says: bzip2
seq 20000 >numbers
for how in xz gzip bzip2; do
	tar -c --$how -f archive.$how numbers
	tar -x -O --$how -f archive.$how | cmp - numbers
	echo $how
done
