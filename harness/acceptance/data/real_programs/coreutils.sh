# SPDX-License-Identifier: MIT
# Text, files, checksums, time-outs.

seq 1 20000 >s
for sum in md5sum sha1sum sha256sum b2sum cksum sum; do $sum s; done
sort -R --random-source=/dev/zero s | md5sum
sort --parallel=2 -S 64k -n -r s | head -3
wc s
stat -c '%s %a %F' s
split -l 5000 s x
cat xa* | cmp - s && ls x*
join <(seq 1 9 | sort) <(seq 5 15 | sort) | paste -s -d,
cut -c1-2 s | uniq -c | sort -rn | head -4
tr 0-9 a-j <s | tail -2
env -i A=b C= env
timeout 0.3 sleep 5
echo "status $?"
timeout -s KILL 0.3 sleep 5
echo "status $?"
nice -n 5 nice
nohup true
date -d @0 -u
factor 123456789 18446744073709551557
dd if=/dev/zero bs=64k count=10 2>/dev/null | cksum
truncate -s 10M sparse
du --apparent-size -b sparse
cp --sparse=always sparse other && cmp sparse other
mkdir -p a/b/c && touch a/b/c/d && chmod 750 a/b && ln -s b a/l && cp -a a e
find e -printf '%y %m %p %l\n' | sort
mkfifo p
seq 3 >p & cat p
wait
seq 10 | shuf --random-source=/dev/zero | tac | nl | od -An -c | head -3
printf '%s %5.2f %x\n' word 3.14159 255
numfmt --to=iec 123456789
base64 s | head -c 60 | base64 -d | xxd 2>/dev/null || base32 s | head -1
id -un
rm -rf a e && ls | wc -l
