/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount */
/*
 * A loop without calls costs in guest mode what it costs natively: nothing
 * but the host's interrupts stands between.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#define LOOPS		1000000
#define PER_MILLE	50	/* the tolerance: each interrupt costs an exit more */

static void spin(unsigned int n, void *arg)
{
	unsigned long loops = n;

	(void)arg;
	asm volatile("1: decq %0; jnz 1b" : "+r"(loops) : : "cc");
}

/* In thousandths, since one loop is a tick or two. */
static void measure(struct bench *b)
{
	long value[BENCH_BATCHES];

	spin(LOOPS, NULL);
	for (unsigned int i = 0; i < BENCH_BATCHES; i++) {
		uint64_t start = bench_ticks();

		spin(LOOPS, NULL);
		value[i] = (long)(bench_ticks() - start) / (LOOPS / 1000);
	}
	*b = bench_of(value, BENCH_BATCHES);
}

int main(void)
{
	struct bench native, dune;
	long apart;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	measure(&native);
	dune_test_enter();
	measure(&dune);

	bench_report("spin_1000_native", &native);
	bench_report("spin_1000_dune", &dune);
	apart = labs(dune.min - native.min) * 1000 / native.min;
	ktap_ok(apart < PER_MILLE, "within %d of a thousand of the native loop (%ld)", PER_MILLE,
		apart);
	return dune_test_done();
}
