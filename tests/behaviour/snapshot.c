/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * libdunesnapshot: what a heap was like when a snapshot was taken can be seen afterwards,
 * with pointers that mean the same; the heap goes on changing; what nobody needs is not
 * copied, and nothing is left when it is over.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_snapshot.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE	4096UL
#define BIG	(2UL << 20)
#define UNIT	4
#define NODES	3000

/* A list that goes through the whole heap, 300 KB apart. */
struct node {
	struct node *next;
	unsigned long value;
};

static struct dune_heap *heap;
static unsigned char *base;

static struct node *node(unsigned long i)
{
	return (struct node *)(base + i * 300 * 1024);
}

static void write_list(unsigned long add)
{
	for (unsigned long i = 0; i < NODES; i++) {
		node(i)->next = i + 1 < NODES ? node(i + 1) : NULL;
		node(i)->value = i + add;
	}
}

/* What was added to all of them, or -1. */
static int read_list(void *arg)
{
	unsigned long add = node(0)->value, n = 0;

	(void)arg;
	for (struct node *at = node(0); at; at = at->next, n++)
		if (at->value != n + add)
			return -1;
	return n == NODES ? (int)add : -1;
}

static struct dune_heap_stats stats(void)
{
	struct dune_heap_stats s;

	dune_heap_stats(heap, &s);
	return s;
}

static struct dune_snapshot *take(void)
{
	struct dune_snapshot *s = NULL;
	int ret = dune_snapshot_take(heap, &s);

	if (ret)
		ktap_bail("dune_snapshot_take: %s", strerror(-ret));
	return s;
}

static int seen(struct dune_snapshot *s)
{
	return dune_snapshot_view(s, read_list, NULL);
}

static int write_it(void *arg)
{
	(void)arg;
	node(1)->value = 1;
	return 0;
}

static int view_again(void *arg)
{
	return dune_snapshot_view(arg, read_list, NULL);
}

/* In a child, which the write kills. */
static int status_of_a_write_in(struct dune_snapshot *s)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid)
		_exit(dune_snapshot_view(s, write_it, NULL));
	waitpid(pid, &status, 0);
	return status;
}

static void three_times(void)
{
	struct dune_snapshot *one, *two, *three;
	struct dune_heap_stats before, after;

	write_list(10);
	one = take();
	ktap_eq(seen(one), 10, "a snapshot has what the heap has");
	before = stats();
	ktap_eq(before.copies, 0, "and nothing was copied for it");
	write_list(20);
	after = stats();
	ktap_ok(seen(one) == 10 && read_list(NULL) == 20, "the heap changes, and it does not");
	ktap_eq(after.copies, NODES * UNIT, "a unit was copied for each page written to");
	ktap_eq(after.faults, NODES, "at one fault each");
	two = take();
	three = take();
	write_list(30);
	ktap_ok(seen(one) == 10 && seen(two) == 20 && seen(three) == 20 && read_list(NULL) == 30,
		"each snapshot has its own time");
	ktap_eq(stats().copies, 2 * NODES * UNIT, "two of the same time share their copies");
	ktap_eq(WTERMSIG(status_of_a_write_in(two)), SIGSEGV, "a snapshot cannot be written to");
	ktap_eq(dune_snapshot_view(one, view_again, two), -EPERM, "nor viewed from another");
	ktap_eq(dune_heap_free(heap), -EBUSY, "a heap with snapshots stays");
	ktap_eq(dune_snapshot_free(two), 0, "one of them is freed");
	ktap_ok(seen(one) == 10 && seen(three) == 20 && read_list(NULL) == 30,
		"and the others are not");
	dune_snapshot_free(three);
	ktap_eq(seen(one), 10, "the oldest is the last");
	dune_snapshot_free(one);
	before = stats();
	ktap_ok(before.bytes < (NODES + 4) * PAGE, "tables stay, and no copies (%lu bytes)",
		(unsigned long)before.bytes);
	dune_snapshot_free(take());
	write_list(40);
	after = stats();
	ktap_ok(after.copies == before.copies && read_list(NULL) == 40,
		"without snapshots nothing is copied");
	ktap_ok(after.faults > before.faults &&
		after.faults - before.faults <= NODES * 300 * 1024 / BIG + 1,
		"and a fault is for 2 MB (%lu)", (unsigned long)(after.faults - before.faults));
}

static void system_calls(void)
{
	struct dune_snapshot *s;
	int pipes[2];

	if (pipe(pipes) || write(pipes[1], "new", 4) != 4)
		ktap_bail("pipe: %s", strerror(errno));
	strcpy((char *)base + 100, "old");
	s = take();
	ktap_ok(!dune_heap_touch(heap, base + 100, 4) && read(pipes[0], base + 100, 4) == 4 &&
		!strcmp((char *)base + 100, "new"), "read() into what was touched before");
	memset(base + 100, 0, 4);
	ktap_eq(dune_heap_touch(heap, base - 1, 2), -EINVAL, "only the heap can be touched");
	ktap_eq(dune_heap_touch(heap, base, (1UL << 30) + 1), -EINVAL, "up to its end");
	dune_snapshot_free(s);
}

static int is_old(void *arg)
{
	(void)arg;
	return !strcmp((char *)base + 100, "old");
}

static void children(void)
{
	struct dune_snapshot *s;
	int status = 0;
	pid_t pid;

	strcpy((char *)base + 100, "old");
	s = take();
	pid = fork();
	if (!pid) {
		strcpy((char *)base + 100, "his");
		_exit(dune_snapshot_view(s, is_old, NULL) ? 42 : 1);
	}
	strcpy((char *)base + 100, "her");
	waitpid(pid, &status, 0);
	ktap_eq(WEXITSTATUS(status), 42, "a child has the snapshot too");
	ktap_ok(dune_snapshot_view(s, is_old, NULL) && !strcmp((char *)base + 100, "her"),
		"and its writes are its own");
	dune_snapshot_free(s);
}

static void limits(void)
{
	struct dune_snapshot *s[DUNE_SNAPSHOTS_MAX], *more;
	struct dune_heap *other;

	for (int i = 0; i < DUNE_SNAPSHOTS_MAX; i++) {
		node(0)->value = (unsigned long)i;
		s[i] = take();
	}
	ktap_eq(dune_snapshot_take(heap, &more), -EAGAIN, "there are so many and no more");
	for (int i = DUNE_SNAPSHOTS_MAX; i--; )
		dune_snapshot_free(s[i]);
	ktap_ok(!dune_snapshot_take(heap, &more) && !dune_snapshot_free(more),
		"freed ones can be had again");
	ktap_eq(dune_heap_new(0, 1, &other), -EINVAL, "a heap has a GiB or more");
	ktap_eq(dune_heap_new(1, 3, &other), -EINVAL, "a unit is a power of two");
	ktap_ok(!dune_heap_new(2, 1, &other) && dune_heap_base(other) != base,
		"there may be another heap");
	memset((char *)dune_heap_base(other) + (1UL << 30) - 8, 1, 16);
	ktap_eq(dune_heap_free(other), 0, "which is freed");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 32 + DUNE_TEST_LEAVE);
	ktap_eq(dune_heap_new(1, UNIT, &heap), -EPERM, "no heap outside of Dune mode");
	dune_test_enter();
	ktap_eq(dune_heap_new(1, UNIT, &heap), 0, "a heap");
	base = dune_heap_base(heap);
	/* The list touches a page of each 300 KiB, where huge pages would be nearly a GiB. */
	madvise(base, dune_heap_size(heap), MADV_NOHUGEPAGE);
	ktap_ok(!((unsigned long)base & ((1UL << 30) - 1)) && dune_heap_size(heap) == 1UL << 30,
		"at a multiple of its size");
	three_times();
	system_calls();
	children();
	limits();
	ktap_eq(dune_heap_free(heap), 0, "the heap is freed");
	ktap_eq(mmap(base, PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), base,
		"and its addresses are there for others");
	base[0] = 1;
	return dune_test_done();
}
