# SPDX-License-Identifier: MIT
# Functions, arrays, pipelines, here-documents, traps, subshells, coprocesses.

for i in 1 2 3; do
	(echo "$i"; exit "$i")
	echo "status $?"
done
trap 'echo usr1 $((++n))' USR1
for i in 1 2 3; do kill -USR1 $$; done
echo a | cat | tr a b
read -r -a top <<<"$(seq 1 100 | sort -rn | head -3 | tr '\n' ' ')"
echo "${top[@]}" "${#top[@]}"
cat <<-END
	$(printf '%s-' {a..e}) ${BASH_VERSINFO[0]}
END
coproc rev { while read -r line; do echo "<$line>"; done; }
echo hello >&"${rev[1]}"
read -r line <&"${rev[0]}"
echo "$line"
exec {rev[1]}>&-
wait "$rev_PID"
diff <(seq 1 5) <(seq 2 6)
fib() { if [ "$1" -lt 2 ]; then echo "$1"; else echo $(($(fib $(($1 - 1))) + $(fib $(($1 - 2))))); fi; }
fib 7
yes | head -2
echo "${PIPESTATUS[@]}"
(kill -TERM $BASHPID)
echo "status $?"
(ulimit -c 0; kill -SEGV $BASHPID) 2>/dev/null
echo "status $?"
(trap '' PIPE; echo late 2>/dev/null) | true
timeout 0.3 bash -c 'while :; do :; done'
echo "status $?"
trap 'echo leaving; exit 9' EXIT
false
