/* SPDX-License-Identifier: MIT */
/*
 * A program on the collector, once for each way to find dirty pages.
 *
 *	static void work(void) { ... gc_new(size) ... gc_check(sum == expected) ... }
 *	int main(void) { return gc_bench("list", work); }
 *
 * Each run is a child of its own, because libgc begins once in a process:
 *
 *	plain		no dirty bits: each collection marks everything (native)
 *	mprotect	libgc's write protection by mprotect() and SIGSEGV (native)
 *	softdirty	the kernel's soft-dirty bits, from /proc (native)
 *	faults, batched, bits	libdunegc's modes, in Dune mode
 *
 * The collector is generational: a collection stops the world and marks from what is new or
 * dirty.  With "_slices" behind the name it is incremental, too: marking goes on in slices of
 * GC_SLICE_MS, between allocations.
 *
 * A pause is an allocation that took longer than PAUSE ticks: the collector was at work.  Who
 * marks in slices has more and shorter ones.
 */
#ifndef TESTS_GC_BENCH_H
#define TESTS_GC_BENCH_H

#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <dune_gc.h>
#include <gc.h>
#include <sys/mman.h>
#include <sys/wait.h>

#ifndef GC_SLICE_MS
#define GC_SLICE_MS	1
#endif

#define PAUSE		20000		/* ticks */
#define PAUSES_MAX	200000

struct gc_way {
	const char *name;
	bool incremental, soft_dirty;
	enum dune_gc_mode mode;
};

static const struct gc_way gc_ways[] = {
	{ .name = "plain" },
	{ .name = "mprotect", .incremental = true },
	{ .name = "softdirty", .incremental = true, .soft_dirty = true },
	{ .name = "faults", .incremental = true, .mode = DUNE_GC_FAULTS },
	{ .name = "batched", .incremental = true, .mode = DUNE_GC_BATCHED },
	{ .name = "bits", .incremental = true, .mode = DUNE_GC_BITS },
};

#define GC_WAYS	(sizeof(gc_ways) / sizeof(gc_ways[0]))

/* What a child says; in memory that it shares with its parent. */
struct gc_said {
	bool done, wrong;
	char why[200];
	long ticks, exits, collections, allocated, heap;
	struct dune_gc_stats stats;
	long pauses, median, worst_hundredth, longest;
	long pause[PAUSES_MAX];
};

static struct gc_said *gc_said;

static void gc_pause(long ticks)
{
	if (ticks > PAUSE && gc_said->pauses < PAUSES_MAX)
		gc_said->pause[gc_said->pauses++] = ticks;
}

/* GC_MALLOC(), and how long the program had to wait for it. */
__attribute__((unused)) static void *gc_new(size_t size)
{
	uint64_t start = dune_get_ticks();
	void *p = GC_MALLOC(size);

	gc_pause((long)(dune_get_ticks() - start));
	return p;
}

/* The same for what holds no pointers. */
__attribute__((unused)) static void *gc_new_atomic(size_t size)
{
	uint64_t start = dune_get_ticks();
	void *p = GC_MALLOC_ATOMIC(size);

	gc_pause((long)(dune_get_ticks() - start));
	return p;
}

__attribute__((unused)) static void gc_check(bool right)
{
	gc_said->wrong |= !right;
}

static __attribute__((noreturn)) void gc_give_up(const char *why)
{
	snprintf(gc_said->why, sizeof(gc_said->why), "%s", why);
	_exit(1);
}

static void gc_begin(const struct gc_way *way, bool slices)
{
	setenv("GC_USE_GETWRITEWATCH", way->soft_dirty ? "1" : "0", 1);
	if (way->mode != DUNE_GC_OFF) {
		const char *why = dune_test_enter_silently();

		if (why)
			gc_give_up(why);
	}
	dune_gc_set_mode(way->mode);
	GC_set_time_limit(slices ? GC_SLICE_MS : GC_TIME_UNLIMITED);
	GC_INIT();
	if (!way->incremental)
		return;
	GC_enable_incremental();
	if (!GC_is_incremental_mode() || dune_gc_mode() != way->mode)
		gc_give_up("the collector is not in the mode that was asked for");
	if (way->mode == DUNE_GC_OFF &&
	    way->soft_dirty != (GC_incremental_protection_needs() == GC_PROTECTS_NONE))
		gc_give_up("this kernel has no soft-dirty bits");
}

static int gc_compare(const void *a, const void *b)
{
	const long *one = a, *other = b;

	return *one < *other ? -1 : *one > *other;
}

static void gc_sum_up(void)
{
	long n = gc_said->pauses;

	qsort(gc_said->pause, (size_t)n, sizeof(long), gc_compare);
	if (!n)
		return;
	gc_said->median = gc_said->pause[n / 2];
	gc_said->worst_hundredth = gc_said->pause[n - 1 - n / 100];
	gc_said->longest = gc_said->pause[n - 1];
}

static uint64_t gc_start;
static long gc_start_exits;

static void gc_stop_clock(void)
{
	gc_said->ticks = (long)(bench_ticks() - gc_start);
	gc_said->exits = gc_start_exits < 0 ? -1 : bench_exits() - gc_start_exits;
}

/* The end of a child.  Work that ends the process by itself calls both at its exit. */
static __attribute__((noreturn)) void gc_finish(void)
{
	gc_said->collections = (long)GC_get_gc_no();
	gc_said->allocated = (long)GC_get_total_bytes();
	gc_said->heap = (long)GC_get_heap_size();
	dune_gc_get_stats(&gc_said->stats);
	gc_sum_up();
	gc_said->done = true;
	_exit(0);
}

static __attribute__((noreturn)) void gc_child(const struct gc_way *way, bool slices,
					       void (*work)(void))
{
	gc_begin(way, slices);
	gc_start_exits = bench_exits();
	gc_start = bench_ticks();
	work();
	gc_stop_clock();
	gc_finish();
}

static void gc_report(const char *name, const struct gc_way *way, bool slices)
{
	const struct dune_gc_stats *s = &gc_said->stats;
	char metric[100];
	int n = snprintf(metric, sizeof(metric) - 20, "gc_%s_%s%s", name, way->name,
			 slices ? "_slices" : "");

	ktap_note("%s: %ld collections, %ld KB allocated, heap %ld KB, %ld pauses, median %ld, "
		  "99th %ld, longest %ld", metric, gc_said->collections,
		  gc_said->allocated / 1024, gc_said->heap / 1024, gc_said->pauses,
		  gc_said->median, gc_said->worst_hundredth, gc_said->longest);
	if (way->mode != DUNE_GC_OFF)
		ktap_note("%s: %lu faults, %lu pages closed, %lu opened, %lu D bits read, %lu "
			  "set, %lu flushes, %lu calls", metric, s->faults, s->closed, s->opened,
			  s->read, s->dirty, s->flushes, s->calls);
	if (!slices)
		ktap_metric(metric, gc_said->ticks, "ticks");
	if (!slices && gc_said->exits >= 0) {
		strcpy(metric + n, "_exits");
		ktap_metric(metric, gc_said->exits, "exits");
	}
	strcpy(metric + n, "_longest");
	ktap_metric(metric, gc_said->longest, "ticks");
}

static bool gc_run(const char *name, const struct gc_way *way, bool slices, void (*work)(void))
{
	int status = -1;
	pid_t pid;

	memset(gc_said, 0, sizeof(*gc_said));
	pid = fork();
	if (!pid)
		gc_child(way, slices, work);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !gc_said->done || gc_said->wrong) {
		ktap_note("%s: status 0x%x, %s %s", way->name, status, gc_said->why,
			  gc_said->wrong ? "the program's result is wrong" : "");
		return false;
	}
	gc_report(name, way, slices);
	return true;
}

__attribute__((unused)) static int gc_bench(const char *name, void (*work)(void))
{
	ktap_plan(2 * GC_WAYS + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	bench_pin();
	gc_said = mmap(NULL, sizeof(*gc_said), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	if (gc_said == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	for (unsigned int slices = 0; slices <= 1; slices++)
		for (unsigned int i = 0; i < GC_WAYS; i++)
			ktap_ok(gc_run(name, &gc_ways[i], slices, work), "%s%s", gc_ways[i].name,
				slices ? ", in slices" : "");
	dune_test_enter();
	return dune_test_done();
}

#endif /* TESTS_GC_BENCH_H */
