/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * libdunegc: the collector finds exactly those pages dirty that were written to since the last
 * collection, and so keeps what only they point to.  What Linux writes into the heap counts
 * too.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_gc.h>
#define GC_THREADS
#include <gc.h>
#include <sys/uio.h>

#ifndef MODE
#define MODE		DUNE_GC_BITS
#define NEIGHBOURS	1UL		/* pages that become dirty together */
#endif

#define PAGE	4096UL
#define PAGES	512UL
#define ROUNDS	12
#define WORDS	(PAGE / sizeof(void *))

static void **array;			/* of PAGES pages, on a page */

static void **page(unsigned long i)
{
	return array + i * WORDS;
}

/* Collects with what was marked before staying marked. */
static void collect(void)
{
	GC_word before = GC_get_gc_no();

	GC_start_incremental_collection();
	if (GC_get_gc_no() == before)
		ktap_bail("no collection");
}

static struct dune_gc_stats stats(void)
{
	struct dune_gc_stats s;

	dune_gc_get_stats(&s);
	return s;
}

/* ---- exact -------------------------------------------------------------- */

static bool in_round(unsigned long i, unsigned int round)
{
	return i * 2654435761UL % 1009 % ROUNDS == round;
}

static void test_found(void)
{
	unsigned long missed = 0, extra = 0, written = 0;

	for (unsigned int round = 0; round < ROUNDS; round++) {
		bool near[PAGES / NEIGHBOURS] = { false };

		for (unsigned long i = 0; i < PAGES; i++)
			if (in_round(i, round)) {
				page(i)[i % WORDS] = NULL;
				near[i / NEIGHBOURS] = true;
				written++;
			}
		collect();
		for (unsigned long i = 0; i < PAGES; i++) {
			bool dirty = dune_gc_was_dirty(page(i));

			missed += in_round(i, round) && !dirty;
			extra += dirty && !near[i / NEIGHBOURS];
		}
	}
	ktap_eq(written, PAGES, "each page was written to in one of %d rounds", ROUNDS);
	ktap_eq(missed, 0, "each was found dirty in that round");
	ktap_eq(extra, 0, "and no page that was not written to");
	collect();
	extra = 0;
	for (unsigned long i = 0; i < PAGES; i++)
		extra += dune_gc_was_dirty(page(i));
	ktap_eq(extra, 0, "none is dirty when nothing was written");
}

static void test_read(void)
{
	unsigned long dirty = 0;
	volatile unsigned long sum = 0;

	for (unsigned long i = 0; i < PAGES; i++)
		sum += (unsigned long)page(i)[0];
	collect();
	for (unsigned long i = 0; i < PAGES; i++)
		dirty += dune_gc_was_dirty(page(i));
	ktap_eq(dirty, 0, "reading makes nothing dirty");
}

/* ---- what is kept ---------------------------------------------------------- */

#define OBJECTS	300

static void *links[OBJECTS];		/* disappear with their objects */

static __attribute__((noinline)) void *new_object(unsigned long i)
{
	unsigned long *p = GC_MALLOC_ATOMIC(64);

	p[0] = i;
	links[i] = (void *)GC_HIDE_POINTER(p);
	GC_general_register_disappearing_link(&links[i], p);
	return p;
}

/* The only pointer to each new object is in a page that was marked long ago. */
static __attribute__((noinline)) void store_objects(void)
{
	for (unsigned long i = 0; i < OBJECTS; i++)
		page(i * 7 % PAGES)[i % WORDS] = new_object(i);
}

static unsigned long kept(unsigned long first, unsigned long end)
{
	unsigned long n = 0;

	for (unsigned long i = first; i < end; i++)
		n += links[i] && *(unsigned long *)GC_REVEAL_POINTER(links[i]) == i;
	return n;
}

static __attribute__((noinline)) void drop_objects(void)
{
	for (unsigned long i = 0; i < OBJECTS; i++)
		page(i * 7 % PAGES)[i % WORDS] = NULL;
}

static __attribute__((noinline)) void clear_stack(void)
{
	volatile char room[4096];

	memset((char *)room, 0, sizeof(room));
}

static void test_kept(void)
{
	store_objects();
	clear_stack();
	collect();
	ktap_eq(kept(0, OBJECTS), OBJECTS, "what only old pages point to is kept");
	drop_objects();
	clear_stack();
	GC_gcollect();
	ktap_ok(kept(0, OBJECTS) < 10, "and goes when nothing does (%lu left)",
		kept(0, OBJECTS));
}

/* ---- past the page tables --------------------------------------------------- */

/* Puts a pointer to a new object into a pipe, and keeps none. */
static __attribute__((noinline)) void send_object(int fd, unsigned long i)
{
	void *p = new_object(i);

	if (write(fd, &p, sizeof(p)) != sizeof(p))
		ktap_bail("write: %s", strerror(errno));
}

static __attribute__((noinline)) void receive_object(int fd, void *where)
{
	if (read(fd, where, sizeof(void *)) != sizeof(void *))
		ktap_bail("read: %s", strerror(errno));
}

static __attribute__((noinline)) void receive_vector(int fd, void *where)
{
	struct iovec iov[2] = { { where, 3 }, { (char *)where + 3, 5 } };

	if (readv(fd, iov, 2) != sizeof(void *))
		ktap_bail("readv: %s", strerror(errno));
}

static void test_calls(void)
{
	struct dune_gc_stats before = stats();
	unsigned long dirty;
	int fd[2];

	if (pipe(fd))
		ktap_bail("pipe: %s", strerror(errno));
	collect();
	for (unsigned long i = 0; i < 20; i++) {
		send_object(fd[1], i);
		receive_object(fd[0], page(100 + i * 3) + 7);
	}
	for (unsigned long i = 20; i < 40; i++) {
		send_object(fd[1], i);
		receive_vector(fd[0], page(100 + i * 3) + 7);
	}
	clear_stack();
	collect();
	ktap_eq(kept(0, 40), 40, "what Linux wrote a pointer to is kept");
	dirty = 0;
	for (unsigned long i = 0; i < PAGES; i++)
		dirty += dune_gc_was_dirty(page(i));
	ktap_ok(dirty >= 40 && dirty <= 40 * NEIGHBOURS, "its pages were dirty, others not (%lu)",
		dirty);
	ktap_eq(stats().calls - before.calls, 40, "by 40 calls that were given the heap");
	close(fd[0]);
	close(fd[1]);
}

#define WAITED_FOR	400UL		/* the page that the thread reads into */

static void *reader(void *fd)
{
	receive_object(*(int *)fd, page(WAITED_FOR) + 9);
	return NULL;
}

/* As long as a call lasts, Linux may write at any time. */
static void test_in_flight(void)
{
	uint64_t calls = stats().calls;
	unsigned long dirty = 0;
	pthread_t thread;
	int fd[2];

	if (pipe(fd) || pthread_create(&thread, NULL, reader, &fd[0]))
		ktap_bail("pipe or pthread_create: %s", strerror(errno));
	for (int i = 0; i < 10000 && stats().calls == calls; i++)
		usleep(1000);
	for (int i = 0; i < 5; i++) {
		collect();
		dirty += dune_gc_was_dirty(page(WAITED_FOR));
	}
	ktap_eq(dirty, 5, "what a call may write to is dirty as long as it lasts");
	ktap_eq(dune_gc_was_dirty(page(WAITED_FOR - 20)), 0, "and nothing else");
	send_object(fd[1], 50);
	pthread_join(thread, NULL);
	clear_stack();
	collect();
	collect();
	ktap_eq(dune_gc_was_dirty(page(WAITED_FOR)), 0, "no longer");
	ktap_eq(kept(50, 51), 1, "what it wrote is kept");
	close(fd[0]);
	close(fd[1]);
}

int main(void)
{
	char *memory;

	ktap_plan(DUNE_TEST_ENTER + 15 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_gc_set_mode(MODE);
	GC_set_time_limit(GC_TIME_UNLIMITED);
	GC_set_full_freq(1000000);
	GC_INIT();
	GC_enable_incremental();
	ktap_eq(dune_gc_mode(), MODE, "the mode is what was asked for");
	memory = GC_MALLOC((PAGES + NEIGHBOURS) * PAGE);
	array = (void **)(((unsigned long)memory + NEIGHBOURS * PAGE - 1) &
			  ~(NEIGHBOURS * PAGE - 1));
	for (unsigned long i = 0; i < PAGES; i++)
		page(i)[0] = NULL;
	GC_gcollect();
	collect();
	test_found();
	test_read();
	test_kept();
	test_calls();
	test_in_flight();
	GC_reachable_here(memory);
	return dune_test_done();
}
