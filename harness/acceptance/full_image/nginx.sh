# SPDX-License-Identifier: MIT
# A web server with forked workers under load of four clients.
# says: Complete requests: 100
# says: Failed requests: 0
mkdir html
seq 1000 >html/file
chmod 755 . html
cat >conf <<END
pid $PWD/pid;
error_log $PWD/log;
worker_processes 2;
events {}
http { access_log off; server { listen 8080; root $PWD/html; } }
END
nginx -c "$PWD/conf"
until_open 8080
ab -q -n 100 -c 4 http://127.0.0.1:8080/file | grep -E '^(Complete|Failed)' | tr -s ' '
nginx -c "$PWD/conf" -s quit
