/* SPDX-License-Identifier: MIT */
/*
 * Measuring in ticks of the time-stamp counter.
 *
 *	struct bench b;
 *
 *	bench_run(&b, batch, arg, 1000);
 *	bench_report("getpid_native", &b);
 *
 * A batch is a function that does its work @n times.  One batch warms up,
 * BENCH_BATCHES are measured; the figure is the median of the batches'
 * averages, the spread is the least and the greatest.  What an empty
 * measurement costs is taken off.  In guest mode bench_report() also says how
 * many exits one operation took, without those that the host's interrupts cause.
 *
 * No batch should last about half a period of the host's timer, 800,000 ticks in Bochs:
 * there is an interrupt in every other one, then, and the median is with it in one run
 * and without it in the next.
 *
 * Ticks are cycles on hardware and instructions on an emulator; the bench
 * knows which and never mixes them.
 */
#ifndef TESTS_BENCH_H
#define TESTS_BENCH_H

#include <libdune/dune.h>
#include <stdint.h>

#include "../cpus.h"
#include "../ktap.h"

#define BENCH_BATCHES	15

struct bench {
	long median, min, max;		/* ticks per operation */
	long exits;			/* hundredths per operation; -1: not counted */
};

/*
 * LFENCE waits for all instructions before it, and none after it starts
 * earlier (SDM vol. 2, RDTSC; APM vol. 3 wants LFENCE dispatch-serialising,
 * which Linux sets).
 */
static inline uint64_t bench_ticks(void)
{
	uint32_t lo, hi;

	asm volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (uint64_t)hi << 32;
}

/* Exits of this thread so far; -1 outside guest mode. */
static long bench_exits(void)
{
	const volatile struct dune_stats *stats = dune_vcpu_stats();
	long exits = 0;

	if (!stats)
		return -1;
	for (unsigned int i = 0; i < DUNE_STAT_NR; i++)
		if (i != DUNE_STAT_INTERRUPT && i != DUNE_STAT_NMI)
			exits += (long)stats->exit[i].count;
	return exits;
}

static long bench_overhead(void)
{
	uint64_t least = UINT64_MAX;

	for (int i = 0; i < 100; i++) {
		uint64_t start = bench_ticks(), ticks = bench_ticks() - start;

		if (ticks < least)
			least = ticks;
	}
	return (long)least;
}

/* Median, least and greatest of @n values, which are sorted in place. */
__attribute__((unused)) static struct bench bench_of(long *value, unsigned int n)
{
	for (unsigned int i = 1; i < n; i++)
		for (unsigned int j = i; j && value[j] < value[j - 1]; j--) {
			long swap = value[j];

			value[j] = value[j - 1];
			value[j - 1] = swap;
		}
	return (struct bench){
		.median = value[n / 2], .min = value[0], .max = value[n - 1], .exits = -1,
	};
}

__attribute__((unused)) static void bench_run(struct bench *b, void (*batch)(unsigned int n, void *arg),
					      void *arg, unsigned int n)
{
	long overhead = bench_overhead(), value[BENCH_BATCHES], exits;

	batch(n, arg);
	exits = bench_exits();
	for (unsigned int i = 0; i < BENCH_BATCHES; i++) {
		uint64_t start = bench_ticks();

		batch(n, arg);
		value[i] = ((long)(bench_ticks() - start) - overhead) / (long)n;
	}
	*b = bench_of(value, BENCH_BATCHES);
	if (exits >= 0) {
		long operations = (long)n * BENCH_BATCHES;

		b->exits = ((bench_exits() - exits) * 100 + operations / 2) / operations;
	}
}

__attribute__((unused)) static void bench_report(const char *name, const struct bench *b)
{
	ktap_metric_spread(name, b->median, "ticks", BENCH_BATCHES, b->min, b->max);
	if (b->exits >= 0)
		ktap_note("metric: %s_exits=%ld.%02ld exits", name, b->exits / 100,
			  b->exits % 100);
}

/* One CPU, so that no migration and no other CPU's counter comes in between. */
__attribute__((unused)) static void bench_pin(void)
{
	if (cpus_pin(0, 0))
		ktap_note("sched_setaffinity: %s", strerror(errno));
}

#endif /* TESTS_BENCH_H */
