/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 spread=5 icount */
/*
 * What signals, threads and processes cost, natively and in Dune mode: a signal
 * sent to oneself, its handler and the return from it; a thread made and joined;
 * a fork whose child ends at once, and the wait for it.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <pthread.h>

static volatile unsigned int handled;

static void on_usr1(int sig)
{
	(void)sig;
	handled++;
}

static void signals(unsigned int n, void *arg)
{
	long pid = getpid(), tid = gettid();

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		syscall(SYS_tgkill, pid, tid, SIGUSR1);
}

static void *nothing(void *arg)
{
	return arg;
}

static void threads(unsigned int n, void *arg)
{
	pthread_t id;

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		if (pthread_create(&id, NULL, nothing, NULL) || pthread_join(id, NULL))
			ktap_bail("pthread_create");
}

static void forks(unsigned int n, void *arg)
{
	int status;

	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(dune_test_cpl() == 0 ? 40 : 43);
		if (waitpid(pid, &status, 0) != pid ||
		    WEXITSTATUS(status) != (dune_test_cpl() == 0 ? 40 : 43))
			ktap_bail("the child of a fork is not where its parent is");
	}
}

static const struct {
	const char *name;
	void (*batch)(unsigned int, void *);
	unsigned int n;
} kinds[] = {
	{ "signal", signals, 100 },
	{ "thread", threads, 20 },
	{ "fork", forks, 5 },
};

#define NR_KINDS	(sizeof(kinds) / sizeof(kinds[0]))

static void report(const char *kind, const char *where, const struct bench *b)
{
	char name[64];

	snprintf(name, sizeof(name), "%s_%s", kind, where);
	bench_report(name, b);
}

int main(void)
{
	struct bench native[NR_KINDS], dune[NR_KINDS];

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	signal(SIGUSR1, on_usr1);
	for (unsigned int i = 0; i < NR_KINDS; i++)
		bench_run(&native[i], kinds[i].batch, NULL, kinds[i].n);
	handled = 0;
	dune_test_enter();
	for (unsigned int i = 0; i < NR_KINDS; i++)
		bench_run(&dune[i], kinds[i].batch, NULL, kinds[i].n);
	for (unsigned int i = 0; i < NR_KINDS; i++) {
		report(kinds[i].name, "native", &native[i]);
		report(kinds[i].name, "dune", &dune[i]);
	}
	ktap_eq(handled, (BENCH_BATCHES + 1) * 100, "each signal was handled once");
	return dune_test_done();
}
