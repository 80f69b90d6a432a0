# SPDX-License-Identifier: MIT
# A table of a thousand rows in a file.
# says: 500500
sqlite3 db '
	create table t(n);
	with recursive c(n) as (values(1) union all select n + 1 from c where n < 1000)
		insert into t select n from c;
	select sum(n) from t;
'
