/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount spread=2 */
/*
 * Memory that comes and goes: mmap, the first touch of its one page, munmap;
 * and the same with sixteen pages.  In guest mode the calls are forwarded, the
 * touch is an exit, and the unmapping takes the page out of the second stage.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE	4096UL
/*
 * A run lasts several turns of the clock's tick: what munmap leaves to RCU is done there,
 * and belongs to the cost of each run alike.
 */
#define ROUNDS		400
#define ROUNDS_16	100

static void come_and_go(unsigned int n, void *arg)
{
	size_t size = *(size_t *)arg;

	for (unsigned int i = 0; i < n; i++) {
		unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			ktap_bail("mmap: %s", strerror(errno));
		for (size_t at = 0; at < size; at += PAGE)
			((volatile unsigned char *)p)[at] = 1;
		munmap(p, size);
	}
}

int main(void)
{
	size_t one = PAGE, sixteen = 16 * PAGE;
	struct bench native[2], dune[2];
	struct dune_stats before, after;
	uint64_t faults;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	bench_run(&native[0], come_and_go, &one, ROUNDS);
	bench_run(&native[1], come_and_go, &sixteen, ROUNDS_16);
	dune_test_enter();
	bench_run(&dune[0], come_and_go, &one, ROUNDS);
	bench_run(&dune[1], come_and_go, &sixteen, ROUNDS_16);

	before = dune_test_stats();
	come_and_go(ROUNDS, &one);
	after = dune_test_stats();
	faults = after.exit[DUNE_STAT_FAULT].count - before.exit[DUNE_STAT_FAULT].count;
	bench_report("mmap_touch_munmap_native", &native[0]);
	bench_report("mmap_touch_munmap_dune", &dune[0]);
	bench_report("mmap_16_pages_native", &native[1]);
	bench_report("mmap_16_pages_dune", &dune[1]);
	ktap_ok(faults >= ROUNDS && faults < ROUNDS + ROUNDS / 8,
		"each page is mapped once (%llu faults for %d)", (unsigned long long)faults, ROUNDS);
	return dune_test_done();
}
