/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=180 slow-bochs=20 thorough */
/*
 * Snapshots while three threads write: each is a consistent cut, and stays what it is
 * while it is looked at.
 *
 * The first thread counts in two places, a before b.  The others pass on what they read,
 * each to a page of its own: what they have come from has been written before.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_snapshot.h>
#include <pthread.h>

#define GIB		(1UL << 30)
#define SNAPSHOTS	150
#define PLACES		4	/* a, b, and those of the two others */
#define SPIN		2000

/* Far apart: in tables of their own, and two of them in one unit of pages. */
static const unsigned long place[PLACES] = { 0, 700UL << 20, 4096, 300UL << 20 };

static struct dune_heap *heap;
static unsigned char *base;
static volatile bool stop;

struct view {
	unsigned long first[PLACES], again[PLACES];
};

static volatile unsigned long *at(int i)
{
	return (volatile unsigned long *)(base + place[i]);
}

static void *count(void *arg)
{
	(void)arg;
	while (!stop) {
		++*at(0);
		asm volatile("" : : : "memory");
		*at(1) = *at(0);
	}
	return NULL;
}

/* From one place to the next. */
static void *pass_on(void *arg)
{
	int to = (int)(long)arg;

	while (!stop)
		*at(to) = *at(to - 1);
	return NULL;
}

static int look(void *arg)
{
	struct view *v = arg;

	for (int i = 0; i < PLACES; i++)
		v->first[i] = *at(i);
	for (volatile int i = 0; i < SPIN; i++)
		;
	for (int i = 0; i < PLACES; i++)
		v->again[i] = *at(i);
	return 0;
}

/* The order in which they were written. */
static bool is_cut(const unsigned long *v)
{
	return (v[0] == v[1] || v[0] == v[1] + 1) && v[2] <= v[1] && v[3] <= v[2];
}

int main(void)
{
	unsigned int cuts = 0, same = 0, later = 0;
	unsigned long before = 0, moved = 0;
	struct dune_heap_stats stats;
	pthread_t t[3];

	ktap_plan(DUNE_TEST_ENTER + 5 + DUNE_TEST_LEAVE);
	dune_test_enter();
	if (dune_heap_new(1, 1, &heap))
		ktap_bail("no heap");
	base = dune_heap_base(heap);
	if (pthread_create(&t[0], NULL, count, NULL) ||
	    pthread_create(&t[1], NULL, pass_on, (void *)2L) ||
	    pthread_create(&t[2], NULL, pass_on, (void *)3L))
		ktap_bail("pthread_create: %s", strerror(errno));
	while (!*at(3))
		sched_yield();
	for (int i = 0; i < SNAPSHOTS; i++) {
		struct dune_snapshot *s;
		unsigned long then;
		struct view v;

		if (dune_snapshot_take(heap, &s))
			ktap_bail("snapshot %d", i);
		/* However busy the machine is: something has changed since. */
		for (then = *at(0); *at(0) == then; )
			sched_yield();
		if (dune_snapshot_view(s, look, &v) || dune_snapshot_free(s))
			ktap_bail("snapshot %d", i);
		cuts += is_cut(v.first);
		same += !memcmp(v.first, v.again, sizeof(v.first));
		later += v.first[0] >= before;
		moved += v.first[0] != before && then >= v.first[0];
		before = v.first[0];
	}
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	dune_heap_stats(heap, &stats);
	ktap_eq(cuts, SNAPSHOTS, "each snapshot is a consistent cut");
	ktap_eq(same, SNAPSHOTS, "and does not change while it is looked at");
	ktap_eq(later, SNAPSHOTS, "nor is one older than the one before");
	ktap_ok(moved == SNAPSHOTS, "the threads went on meanwhile (%lu times)", moved);
	ktap_ok(stats.copies >= SNAPSHOTS, "and had pages copied (%lu; %lu shootdowns)",
		(unsigned long)stats.copies, (unsigned long)stats.shootdowns);
	return dune_test_done();
}
