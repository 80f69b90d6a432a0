/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 */
/*
 * libdunegc with threads: each of them stores the only pointers to new objects in old pages
 * that all of them write to, while others collect.  An object that was lost would be given
 * out again and written over.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_gc.h>
#define GC_THREADS
#include <gc.h>
#include <sys/wait.h>

#define THREADS	4
#define SLOTS	20000UL			/* of each thread, interleaved with the others' */
#define STORES	40000UL
#define LIVE	300UL			/* slots in use */

struct object {
	unsigned long owner, slot, number;
	struct object *self;
};

static struct object **slots;		/* old */
static unsigned long wrong, collections_before;

static struct object **slot(unsigned long thread, unsigned long i)
{
	return &slots[i % SLOTS * THREADS + thread];
}

static bool right(const struct object *o, unsigned long thread, unsigned long i)
{
	return o && o->self == o && o->owner == thread && o->slot == i % SLOTS && o->number == i;
}

static __attribute__((noinline)) void store(unsigned long thread, unsigned long i)
{
	struct object *o = GC_MALLOC(sizeof(*o));

	o->owner = thread;
	o->slot = i % SLOTS;
	o->number = i;
	o->self = o;
	*slot(thread, i) = o;
}

/* Steps through the slots so that all pages are written to all the time. */
static void *writer(void *arg)
{
	unsigned long thread = (unsigned long)arg, bad = 0, step = 61;

	for (unsigned long n = 0; n < STORES; n++) {
		unsigned long i = n * step;

		store(thread, i);
		if (n >= LIVE) {
			i = (n - LIVE) * step;
			bad += !right(*slot(thread, i), thread, i);
			*slot(thread, i) = NULL;
		}
	}
	bad += dune_test_cpl() != 0;
	__atomic_add_fetch(&wrong, bad, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Ends the child. */
static void run(enum dune_gc_mode mode, unsigned int slice)
{
	pthread_t thread[THREADS];

	dune_gc_set_mode(mode);
	GC_set_time_limit(slice ? slice : GC_TIME_UNLIMITED);
	GC_INIT();
	GC_enable_incremental();
	slots = GC_MALLOC(THREADS * SLOTS * sizeof(*slots));
	GC_gcollect();
	collections_before = GC_get_gc_no();
	for (unsigned long i = 0; i < THREADS; i++)
		if (pthread_create(&thread[i], NULL, writer, (void *)i))
			_exit(2);
	for (unsigned long i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	ktap_note("%lu collections, %lu wrong", GC_get_gc_no() - collections_before, wrong);
	_exit(dune_gc_mode() == mode && !wrong && GC_get_gc_no() > collections_before + 5 ? 0 : 1);
}

static void test(enum dune_gc_mode mode, const char *name, unsigned int slice)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		run(mode, slice);
	waitpid(pid, &status, 0);
	ktap_eq(status, 0, "%s%s: no object is lost", name, slice ? ", in slices" : "");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 6 + DUNE_TEST_LEAVE);
	dune_test_enter();
	for (unsigned int slice = 0; slice <= 1; slice++) {
		test(DUNE_GC_BITS, "bits", slice);
		test(DUNE_GC_FAULTS, "faults", slice);
		test(DUNE_GC_BATCHED, "batched", slice);
	}
	return dune_test_done();
}
