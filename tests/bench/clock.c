/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount */
/*
 * clock_gettime() through the vDSO is no system call, in guest mode neither:
 * no exit, and native speed.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <time.h>

#define CALLS		1000
#define PER_CENT	5	/* the tolerance: each interrupt costs an exit more */

static void clocks(unsigned int n, void *arg)
{
	struct timespec ts;

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		clock_gettime(CLOCK_MONOTONIC, &ts);
}

int main(void)
{
	struct bench native, dune;
	uint64_t calls;
	long apart;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	bench_pin();
	bench_run(&native, clocks, NULL, CALLS);
	dune_test_enter();
	bench_run(&dune, clocks, NULL, CALLS);
	calls = dune_test_hypercalls();
	clocks(CALLS, NULL);
	calls = dune_test_hypercalls() - calls;

	bench_report("clock_gettime_native", &native);
	bench_report("clock_gettime_dune", &dune);
	ktap_eq(calls, 0, "without an exit");
	apart = labs(dune.min - native.min) * 100 / native.min;
	ktap_ok(apart <= PER_CENT, "within %d %% of native speed (%ld)", PER_CENT, apart);
	return dune_test_done();
}
