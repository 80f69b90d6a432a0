# SPDX-License-Identifier: MIT
# A server with two workers under ab, reloaded and stopped by signals.

mkdir www
seq 1 2000 >www/numbers
cat >conf <<END
daemon off;
pid $PWD/pid;
error_log $PWD/error;
worker_processes 2;
events { worker_connections 64; }
http {
	access_log $PWD/access;
	server { listen 127.0.0.1:8088; root $PWD/www; }
}
END
chmod 755 . www
nginx -c "$PWD/conf" &
server=$!
bench() {
	ab -q -n 200 -c 10 "$@" http://127.0.0.1:8088/numbers 2>/dev/null |
		grep -e '^Complete' -e '^Failed' -e '^HTML'
}
# A request is logged after its answer was sent.
logged() {
	until [ "$(wc -l <access)" -ge "$1" ]; do sleep 0.1; done
}
until [ "$(bench)" ]; do sleep 0.1; done
logged 200
: >access
bench
bench -k
nginx -c "$PWD/conf" -s reload
bench
logged 600
wc -l <access
kill -QUIT $server
wait $server
echo "status $?"
grep -c -e alert -e emerg error
