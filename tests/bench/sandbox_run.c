/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 image=full timeout=1500 slow=900 runs=1 spread=10 */
/*
 * Whole programs natively and under dune-sandbox: some that compute, from fork() to their end,
 * and nginx while ab asks it for a small file, with 1 and with 100 connections at once.
 * "start" is a program that does nothing: what is in each other figure, too.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define REQUESTS	"1000"
#define TEXT(...)	{ __VA_ARGS__, NULL }

struct job {
	const char *name, *output;	/* output: NULL, or a file that must be the same */
	const char *args[16];
};

static const char python[] =
	"import hashlib\n"
	"d = {}\n"
	"for i in range(400000):\n"
	"    d[i * 7919 % 10007] = d.get(i % 1009, 0) + i\n"
	"print(sum(d.values()), hashlib.md5(repr(sorted(d.items())).encode()).hexdigest())\n";

static const char perl[] =
	"my %h; my $s = ''; for (1 .. 8000) { $h{$_ % 1009} .= chr(97 + $_ % 26); "
	"$s = substr($s . $_, -200); $s =~ s/(\\d)\\1/$1/g } "
	"print length(join '', map { \"$_$h{$_}\" } sort keys %h), \" $s\\n\"";

static const char sql[] =
	"create table t(a integer primary key, b, c);"
	"with recursive n(x) as (select 1 union all select x + 1 from n where x < 120000) "
	"insert into t select x, x * 7919 % 10007, 'row ' || x from n;"
	"create index i on t(b); select count(*), sum(a * b) from t where b < 5000;"
	"select b, count(*), max(c) from t group by b order by 2 desc, 1 limit 3;";

static const struct job jobs[] = {
	{ "start", NULL, TEXT("true") },
	{ "bzip2", "z", TEXT("bzip2", "-c", "data") },
	{ "gzip", "z", TEXT("gzip", "-6nc", "data") },
	{ "xz", "z", TEXT("xz", "-T1", "-1c", "data") },
	{ "openssl", "z", TEXT("openssl", "dgst", "-sha512", "data", "data", "data", "data",
			     "data", "data", "data", "data", "data", "data", "data", "data") },
	{ "python", "z", TEXT("python3", "-c", python) },
	{ "perl", "z", TEXT("perl", "-e", perl) },
	{ "sqlite", "z", TEXT("sqlite3", ":memory:", sql) },
	{ "gcc", "code.s", TEXT("gcc", "-O2", "-S", "-o", "code.s", "code.c") },
};

#define JOBS	(sizeof(jobs) / sizeof(jobs[0]))

static const char *const in_sandbox[] = TEXT("dune-sandbox", "--allow-all", "--quiet");

static void shell(const char *text)
{
	if (system(text))
		ktap_bail("failed: %s", text);
}

static pid_t start(const char *const *runner, const char *const *words, const char *output)
{
	const char *args[24];
	unsigned int n = 0;
	pid_t pid;

	for (; runner && runner[n]; n++)
		args[n] = runner[n];
	while (*words)
		args[n++] = *words++;
	args[n] = NULL;
	pid = fork();
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (output && (close(1) || open(output, O_WRONLY | O_CREAT | O_TRUNC, 0644) != 1))
		_exit(126);
	execvp(args[0], (char **)args);
	_exit(127);
}

static void end_well(pid_t pid, const char *what)
{
	int status = -1;

	if (waitpid(pid, &status, 0) != pid || status)
		ktap_bail("%s: status 0x%x", what, (unsigned int)status);
}

/* ---- programs that compute ------------------------------------------------------ */

static long compute(const char *const *runner, const struct job *job)
{
	const char *to = job->output && strcmp(job->output, "z") ? NULL : job->output;
	uint64_t begin = bench_ticks();

	end_well(start(runner, job->args, to), job->name);
	return (long)(bench_ticks() - begin);
}

static void report(const char *what, const char *name, const char *way, long ticks)
{
	char metric[80];

	snprintf(metric, sizeof(metric), "sandbox_%s_%s_%s", what, name, way);
	ktap_metric(metric, ticks, "ticks");
}

static bool job_both_ways(const struct job *job)
{
	char text[64] = "true";

	compute(NULL, job);		/* from the disk into memory, with time that is idle */
	report("run", job->name, "native", compute(NULL, job));
	if (job->output) {
		snprintf(text, sizeof(text), "mv %s before", job->output);
		shell(text);
		snprintf(text, sizeof(text), "cmp %s before", job->output);
	}
	report("run", job->name, "dune", compute(in_sandbox, job));
	return !system(text);
}

/* ---- a server ---------------------------------------------------------------------- */

static const char *const server[] = TEXT("nginx", "-p", ".", "-c", "conf");
static const char *const ask_one[] = TEXT("ab", "-q", "-n", REQUESTS, "-c", "1",
					  "http://127.0.0.1:8088/page");
static const char *const ask_many[] = TEXT("ab", "-q", "-n", REQUESTS, "-c", "100",
					   "http://127.0.0.1:8088/page");

static long ask(const char *const *words)
{
	uint64_t begin = bench_ticks();

	end_well(start(NULL, words, "said"), "ab");
	begin = bench_ticks() - begin;
	shell("grep -q 'Complete requests: *" REQUESTS "$' said && "
	      "grep -q 'Failed requests: *0$' said");
	return (long)begin / atoi(REQUESTS);
}

/* Ticks of a request: of ab, the kernel and the server. */
static void serve(const char *way, const char *const *runner)
{
	pid_t pid = start(runner, server, NULL);

	shell("i=0; until ab -q -n 1 http://127.0.0.1:8088/page >/dev/null 2>&1; do "
	      "i=$((i + 1)); [ $i -lt 100 ] || exit 1; sleep 0.1; done");
	ask(ask_one);
	report("http", "1", way, ask(ask_one));
	report("http", "100", way, ask(ask_many));
	kill(pid, SIGQUIT);
	end_well(pid, "nginx");
}

static void prepare(void)
{
	char folder[] = "/tmp/sandbox_run.XXXXXX";

	if (!mkdtemp(folder) || chmod(folder, 0755) || chdir(folder))
		ktap_bail("%s: %s", folder, strerror(errno));
	shell("head -c 3000000 /usr/bin/perl >data; head -c 2000 data >page; chmod 644 page");
	shell("printf 'daemon off;\\npid pid;\\nerror_log error;\\nworker_processes 1;\\n"
	      "events { worker_connections 256; }\\nhttp { access_log off;\\n"
	      "server { listen 127.0.0.1:8088 backlog=256; root %s; } }\\n' \"$PWD\" >conf");
	shell("ip link set lo up");
	shell("i=0; while [ $i -lt 150 ]; do i=$((i + 1)); echo \"int f$i(int *a, int n) { "
	      "int s = $i; for (int i = 0; i < n; i++) { a[i] += s * a[n - 1 - i]; "
	      "s ^= a[i] >> (i % 7); } return s; }\"; done >code.c");
}

int main(void)
{
	ktap_plan(JOBS + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	setenv("PYTHONHASHSEED", "0", 1);
	bench_pin();
	prepare();
	for (unsigned int i = 0; i < JOBS; i++)
		ktap_ok(job_both_ways(&jobs[i]), "%s does the same both ways", jobs[i].name);
	serve("native", NULL);
	serve("dune", in_sandbox);
	dune_test_enter();
	return dune_test_done();
}
