# SPDX-License-Identifier: MIT
# What a shell does, for strace: the children end while it waits for them.
words="a b c"
for i in 1 2 3; do words="$words $i"; done
echo "$words" "${#words}"
(sleep 0.3; exit 2)
echo $?
sleep 0.3 | sleep 0.9
sh -c 'sleep 0.3; exit 3'
echo $?
trap 'echo usr1' USR1
kill -USR1 $$
trap - USR1
while read -r line; do echo "$line"; done <<END
one
two
END
nosuch-command 2>/dev/null
echo $?
test -d /proc && kill -TERM $$
