# SPDX-License-Identifier: MIT
# A server under its own benchmark.

redis-server --port 6399 --bind 127.0.0.1 --save '' --dir "$PWD" >/dev/null 2>&1 &
server=$!
cli() { redis-cli -p 6399 "$@"; }
until [ "$(cli ping 2>/dev/null)" = PONG ]; do sleep 0.1; done
cli set a b
cli get a
redis-benchmark -p 6399 -n 1000 -c 20 -q -t set,get,lpush,incr 2>/dev/null | tr '\r' '\n' |
	grep 'requests per second' | cut -d: -f1
redis-benchmark -p 6399 -n 500 -c 10 --threads 2 -q -t ping_inline 2>/dev/null | tr '\r' '\n' |
	grep 'requests per second' | cut -d: -f1
cli eval 'local s = 0 for i = 1, 1000 do s = s + i end return s' 0
cli dbsize
cli bgsave
until [ "$(cli lastsave)" ] && [ -s dump.rdb ]; do sleep 0.1; done
cli shutdown nosave
wait $server
echo "status $?"
