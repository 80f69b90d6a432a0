# SPDX-License-Identifier: MIT
# fzf: goroutines on several threads, signals for preemption, a collector.

seq 1 200000 | fzf --filter 777 | sha256sum
find /usr/lib -name '*.py' | sort | fzf --filter 'json enc' | head -5
seq 1 1000 | GOMAXPROCS=4 GOGC=5 fzf --no-sort --filter "'99 | ^12" | sha256sum
echo a | fzf --filter nothing
echo "status $?"
