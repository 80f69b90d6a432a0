# SPDX-License-Identifier: MIT
# Job control in a script: process groups, stopping, going on, waiting.

set -m
sleep 4 &
sleep 6 &
jobs | sed 's/[[:space:]]*$//'
kill -STOP %1
until [ "$(ps -o stat= -p "$(jobs -p %1)" | cut -c1)" = T ]; do sleep 0.05; done
jobs | sed 's/[[:space:]]*$//'
kill -CONT %1
wait %1 %2
echo "status $?"

bash -c 'while :; do :; done' &
busy=$!
[ "$(ps -o pgid= -p $busy | tr -d ' ')" = $busy ] && echo "a group of its own"
kill -TSTP -- -$busy
until [ "$(ps -o stat= -p $busy | cut -c1)" = T ]; do sleep 0.05; done
echo stopped
kill -CONT -- -$busy
until [ "$(ps -o stat= -p $busy | cut -c1)" != T ]; do sleep 0.05; done
echo running
kill -INT -- -$busy
wait $busy
echo "status $?"
(sleep 0.1; exit 4) & (sleep 2; exit 5) &
wait -n; echo "status $?"
wait -n; echo "status $?"
