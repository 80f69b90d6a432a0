/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount */
/*
 * The first touch of a page: natively one page fault, in guest mode one exit
 * that looks the page up in the address space.  Without huge pages.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE	4096UL
#define PAGES	512

static unsigned char *area;

static void touch(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		((volatile unsigned char *)area)[i * PAGE] = 1;
}

static void measure(struct bench *b)
{
	long overhead = bench_overhead(), value[BENCH_BATCHES];

	for (int i = -1; i < BENCH_BATCHES; i++) {
		uint64_t start;

		madvise(area, PAGES * PAGE, MADV_DONTNEED);
		start = bench_ticks();
		touch(PAGES, NULL);
		if (i >= 0)
			value[i] = ((long)(bench_ticks() - start) - overhead) / PAGES;
	}
	*b = bench_of(value, BENCH_BATCHES);
}

int main(void)
{
	struct dune_stats before, after;
	struct bench native, dune;
	uint64_t faults;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	measure(&native);
	dune_test_enter();
	measure(&dune);

	madvise(area, PAGES * PAGE, MADV_DONTNEED);
	before = dune_test_stats();
	touch(PAGES, NULL);
	after = dune_test_stats();
	faults = after.exit[DUNE_STAT_FAULT].count - before.exit[DUNE_STAT_FAULT].count;

	bench_report("fault_native", &native);
	bench_report("fault_dune", &dune);
	ktap_metric("exits_per_fault", (long long)((faults + PAGES / 2) / PAGES), "exits");
	ktap_ok(faults >= PAGES && faults < PAGES + PAGES / 8, "one exit per page (%llu for %d)",
		(unsigned long long)faults, PAGES);
	return dune_test_done();
}
