# SPDX-License-Identifier: MIT
# A clone over a socket.
# says: first
# says: 100
git init -q --bare -b main origin.git
git clone -q origin.git work 2>log
seq 100 >work/file
git -C work add file
git -C work -c user.name=a -c user.email=b commit -qm first
git -C work push -q origin HEAD:main
git daemon --export-all --base-path="$PWD" --reuseaddr "$PWD" &
until_open 9418
git clone -q git://127.0.0.1/origin.git copy
kill $!
git -C copy log --format=%s
wc -l <copy/file
