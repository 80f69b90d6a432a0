# SPDX-License-Identifier: MIT
# A server under load of ten clients.
# says: OK
# says: v
redis-server --port 6379 --save '' >log &
until_open 6379
redis-benchmark -n 500 -c 10 -q -t set,get >benchmark
redis-cli set k v
redis-cli get k
redis-cli shutdown nosave
wait
