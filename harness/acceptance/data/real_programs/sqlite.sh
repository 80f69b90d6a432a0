# SPDX-License-Identifier: MIT
# Transactions, an index, a crash in the middle of one, two writers.

sqlite3 db 'create table t(a, b);
	with recursive c(x) as (select 1 union all select x + 1 from c where x < 5000)
		insert into t select x, x * x from c;
	select sum(b) from t; create index i on t(b); select count(*) from t where b > 1000;
	pragma journal_mode = wal; pragma integrity_check;'
{ echo 'begin immediate; delete from t;'; sleep 0.3; } | sqlite3 db &
writer=$!
sqlite3 -cmd '.timeout 20000' db 'insert into t values (0, 0); select count(*) from t;'
wait $writer
(echo 'begin; delete from t; select count(*) from t;'; echo '.shell kill -9 $PPID') | sqlite3 db 2>/dev/null
echo "status $?"
sqlite3 db 'select count(*), max(a) from t; pragma integrity_check;'
sqlite3 db 'select nothing;' 2>/dev/null
echo "status $?"
