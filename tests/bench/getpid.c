/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount */
/*
 * The cheapest system call: natively, from guest mode as it is by default, and
 * from a process in which every call goes through user space; and how many
 * exits a call takes.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "bench.h"

#define CALLS	1000
#define BATCH	100	/* far below half a tick of the host, on the general path too: bench.h */

static void getpids(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		unsigned long ret = SYS_getpid;

		asm volatile("syscall" : "+a"(ret) : : "rcx", "r11", "memory");
	}
}

/* Exits of CALLS calls, less the interrupts and memory faults of the host. */
static uint64_t exits_of_calls(void)
{
	struct dune_stats before = dune_test_stats(), after;
	uint64_t exits = 0;

	getpids(CALLS, NULL);
	after = dune_test_stats();
	for (unsigned int i = 0; i < DUNE_STAT_NR; i++)
		if (i != DUNE_STAT_INTERRUPT && i != DUNE_STAT_NMI && i != DUNE_STAT_FAULT)
			exits += after.exit[i].count - before.exit[i].count;
	return exits;
}

static struct bench *general;	/* shared with the child */

static int general_path(void *arg)
{
	(void)arg;
	dune_set_fast_calls(false);
	dune_test_child_enter();
	bench_run(general, getpids, NULL, BATCH);
	return 0;
}

int main(void)
{
	struct bench native, dune;
	struct child child;
	uint64_t exits;

	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	bench_pin();
	general = child_shared(sizeof(*general));
	child = child_start(general_path, NULL);
	bench_run(&native, getpids, NULL, BATCH);
	child_go(&child);
	ktap_eq(child_wait(&child), 0, "a process without fast calls");
	dune_test_enter();
	bench_run(&dune, getpids, NULL, BATCH);
	getpids(1, NULL);
	exits = exits_of_calls();

	bench_report("getpid_native", &native);
	bench_report("getpid_dune", &dune);
	bench_report("getpid_general", general);
	ktap_metric("exits_per_call", (long long)(exits / CALLS), "exits");
	ktap_eq(exits, CALLS, "a forwarded call is exactly one exit");
	ktap_ok(dune.min > native.min, "and costs more than a native one");
	ktap_ok(dune.median < general->median, "but less than through user space");
	return dune_test_done();
}
