/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 spread=15 icount */
/*
 * What signals and threads cost, natively and in Dune mode: a signal sent to
 * oneself, its handler and the return from it; a thread made and joined.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <pthread.h>

#define SIGNALS	25	/* far below half a tick of the host: bench.h */

static volatile unsigned int handled;
static long pid, tid;

static void on_usr1(int sig)
{
	(void)sig;
	handled++;
}

static void signals(unsigned int n, void *arg)
{
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

static const struct {
	const char *name;
	void (*batch)(unsigned int, void *);
	unsigned int n;
} kinds[] = {
	{ "signal", signals, SIGNALS },
	{ "thread", threads, 20 },
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
	pid = getpid();
	tid = gettid();
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
	ktap_eq(handled, (BENCH_BATCHES + 1) * SIGNALS, "each signal was handled once");
	return dune_test_done();
}
