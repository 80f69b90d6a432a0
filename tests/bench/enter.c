/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 icount spread=10 */
/*
 * What it costs to get into Dune mode: dune_init() and dune_enter(), in ticks
 * and in memory.  A process does each once, so every sample is a new process,
 * and what the kernel's allocators find differs by some percent between runs.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "bench.h"

#include <fcntl.h>

static struct {
	long init, enter;	/* ticks */
	long resident;		/* bytes */
	int inside;
} *sample;

/* Resident bytes of this process: second word of statm, in pages. */
static long resident(void)
{
	char buf[128] = "", *end;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	if (n <= 0)
		return -1;
	strtol(buf, &end, 10);
	return strtol(end, NULL, 10) * 4096;
}

static int measure(void *arg)
{
	long before = resident();
	uint64_t start, middle, end;

	(void)arg;
	if (dune_test_native())
		return 1;
	start = bench_ticks();
	if (dune_init(true))
		return 1;
	middle = bench_ticks();
	if (dune_enter())
		return 2;
	end = bench_ticks();
	sample->init = (long)(middle - start);
	sample->enter = (long)(end - middle);
	sample->resident = resident() - before;
	sample->inside = dune_test_cpl() == 0 && dune_test_privileged();
	return 0;
}

int main(void)
{
	long init[BENCH_BATCHES], enter[BENCH_BATCHES], memory[BENCH_BATCHES];
	struct bench b;
	unsigned int good = 0;

	ktap_plan(2 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	bench_pin();
	sample = child_shared(sizeof(*sample));
	for (int i = -1; i < BENCH_BATCHES; i++) {
		struct child c;

		memset(sample, 0, sizeof(*sample));
		c = child_start(measure, NULL);
		child_go(&c);
		good += child_wait(&c) == 0 && sample->inside;
		if (i < 0)
			continue;	/* the first one warms up */
		init[i] = sample->init;
		enter[i] = sample->enter;
		memory[i] = sample->resident;
	}
	ktap_eq(good, BENCH_BATCHES + 1, "%d processes entered", BENCH_BATCHES + 1);
	b = bench_of(init, BENCH_BATCHES);
	bench_report("dune_init", &b);
	b = bench_of(enter, BENCH_BATCHES);
	bench_report("dune_enter", &b);
	b = bench_of(memory, BENCH_BATCHES);
	ktap_metric_spread("resident", b.median, "bytes", BENCH_BATCHES, b.min, b.max);
	ktap_ok(b.median < 4L << 20, "less than 4 MB more resident memory");

	dune_test_enter();
	return dune_test_done();
}
