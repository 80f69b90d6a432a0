/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=180 slow-bochs=90 thorough */
/*
 * The page allocator under four threads: no page has two owners, references are counted
 * right, large pages and small ones live side by side.  And a page that was given back
 * is out of the TLBs of threads that sleep in the kernel before it is somebody else's.
 */
#define _GNU_SOURCE
#include "../vm.h"

#define THREADS	3	/* and the main one */
#define HELD	48
#define ROUNDS	400
#define RW	(PERM_R | PERM_W)

static volatile unsigned int ready, go;

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	if (pthread_create(t, NULL, fn, arg))
		ktap_bail("pthread_create: %s", strerror(errno));
}

static void wait_ready(unsigned int n)
{
	while (ready < n)
		sched_yield();
}

/* Run @fn in all four at once; the sum of what they return. */
static unsigned long all_four(void *(*fn)(void *))
{
	unsigned long bad;
	pthread_t t[THREADS];

	ready = go = 0;
	for (unsigned long i = 0; i < THREADS; i++)
		start(&t[i], fn, (void *)(i + 1));
	wait_ready(THREADS);
	go = 1;
	bad = (unsigned long)fn(NULL);
	for (int i = 0; i < THREADS; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		bad += (unsigned long)ret;
	}
	return bad;
}

static void line_up(void *arg)
{
	if (!arg)
		return;
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	while (!go)
		asm volatile("pause");
}

/* ---- owners ------------------------------------------------------------- */

/* The owner's mark is in the page's first bytes and in its last. */
static void mark(struct page *pg, unsigned long value)
{
	volatile unsigned long *p = dune_page2va(pg);

	p[0] = value;
	p[PGSIZE / sizeof(*p) - 1] = ~value;
}

static bool has_mark(struct page *pg, unsigned long value)
{
	volatile unsigned long *p = dune_page2va(pg);

	return p[0] == value && p[PGSIZE / sizeof(*p) - 1] == ~value;
}

static void *owner(void *arg)
{
	unsigned long me = (unsigned long)arg + 1, bad = 0;
	struct page *held[HELD] = {};

	line_up(arg);
	for (unsigned int k = 0; k < ROUNDS; k++) {
		unsigned int i = k * 7 % HELD;

		if (held[i]) {
			bad += !has_mark(held[i], me << 32 | i) || held[i]->ref != 1;
			if (k & 1)
				dune_page_free(held[i]);
			else
				dune_page_put(held[i]);
			held[i] = NULL;
		} else {
			held[i] = k % 97 ? dune_page_alloc() : dune_page_alloc_order(DUNE_ORDER_2M);
			if (!held[i])
				return (void *)(bad + 1);
			bad += dune_pa2page(dune_page2pa(held[i])) != held[i];
			mark(held[i], me << 32 | i);
		}
	}
	for (unsigned int i = 0; i < HELD; i++) {
		if (!held[i])
			continue;
		bad += !has_mark(held[i], me << 32 | i);
		dune_page_free(held[i]);
	}
	return (void *)bad;
}

/* ---- references ----------------------------------------------------------- */

static struct page *shared;

static void *counter(void *arg)
{
	unsigned long bad = 0;

	line_up(arg);
	for (unsigned int k = 0; k < 4 * ROUNDS; k++) {
		bad += dune_page_get(shared) != shared || shared->ref < 2;
		if (k & 1)
			dune_page_put(shared);
	}
	return (void *)bad;
}

static void references(void)
{
	physaddr_t pa;

	shared = dune_page_alloc();
	pa = dune_page2pa(shared);
	ktap_eq(all_four(counter), 0, "four threads take references and give half of them back");
	ktap_eq(shared->ref, 1 + (THREADS + 1) * 2 * ROUNDS, "none is lost");
	for (unsigned long left = shared->ref; left > 1; left--)
		dune_page_put(shared);
	ktap_ok(shared->ref == 1 && dune_page_isfrompool(pa), "the page is there up to the last");
	dune_page_put(shared);
	ktap_eq(shared->ref, 0, "which frees it");
}

/* ---- sleepers --------------------------------------------------------------- */

static unsigned char *at;
static int pipes[2];
static __thread unsigned int faults;

/* Nothing is mapped there any more: the read goes on with a page of the handler's. */
static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)addr;
	(void)fec;
	faults++;
	tf->rip += 3;	/* movzbl (%reg), %reg, see read_at() */
}

static int read_at(void)
{
	int value = -1;

	asm volatile("movzbl (%1), %0" : "+a"(value) : "d"(at) : "memory");
	return value;
}

/* Has the page in its TLB, sleeps, and looks again. */
static void *sleeper(void *arg)
{
	unsigned long bad = 0;
	char c;

	(void)arg;
	faults = 0;
	bad += read_at() != 'a' || faults;
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	bad += read(pipes[0], &c, 1) != 1;
	bad += read_at() != -1 || faults != 1;
	return (void *)bad;
}

static void sleepers(void)
{
	struct timespec nap = { .tv_nsec = 5000000 };
	unsigned long bad = 0;
	pthread_t t[THREADS];

	if (pipe(pipes))
		ktap_bail("pipe");
	dune_register_pgflt_handler(on_fault);
	for (int round = 0; round < 8; round++) {
		struct page *again[HELD];

		bad += dune_vm_map_pages(pgroot, at, PGSIZE, RW) != 0;
		*(volatile unsigned char *)at = 'a';
		ready = 0;
		for (int i = 0; i < THREADS; i++)
			start(&t[i], sleeper, NULL);
		wait_ready(THREADS);
		nanosleep(&nap, NULL);
		dune_vm_unmap(pgroot, at, PGSIZE);
		for (int i = 0; i < HELD; i++) {
			again[i] = dune_page_alloc();
			mark(again[i], 0x7a7a7a7a7a7a7a7aUL);
		}
		bad += write(pipes[1], "123", THREADS) != THREADS;
		for (int i = 0; i < THREADS; i++) {
			void *ret;

			pthread_join(t[i], &ret);
			bad += (unsigned long)ret;
		}
		for (int i = 0; i < HELD; i++)
			dune_page_free(again[i]);
	}
	ktap_eq(bad, 0, "%d threads asleep in read(): what was unmapped meanwhile is a fault, not the next owner's page",
		THREADS);
}

int main(void)
{
	struct page *before, *after;

	ktap_plan(DUNE_TEST_ENTER + 1 + 1 + 4 + 1 + DUNE_TEST_LEAVE);
	dune_test_enter();
	at = (unsigned char *)VM_FREE(0);
	before = dune_page_alloc();
	dune_page_free(before);
	ktap_eq(all_four(owner), 0, "four threads, %d turns each: every page has one owner", ROUNDS);
	after = dune_page_alloc();
	ktap_ok(after && after->ref == 1, "and the pool has pages afterwards");
	dune_page_free(after);
	references();
	sleepers();
	return dune_test_done();
}
