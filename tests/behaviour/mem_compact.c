/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 slow-bochs=95 thorough */
/*
 * Pages that the kernel moves to other frames, by compaction and on request,
 * while guest mode counts in them: no count is lost.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#define MPOL_MF_MOVE	2

#define AREA		(48 * MIB)
#define PAGES		(AREA / PAGE)
#define KEPT		4		/* one page in so many is kept: the rest are holes */
#define NR_KEPT		(PAGES / KEPT)
#define MOVED		200		/* frames that must have changed */
#define TRIES		8

static unsigned char *area;
static uint64_t *frames;

static struct {
	volatile int stop, inside;
	volatile unsigned long rounds, wrong;
} worker;

static volatile uint64_t *counter(size_t i)
{
	return (volatile uint64_t *)(area + i * KEPT * PAGE);
}

static void *work(void *arg)
{
	(void)arg;
	worker.inside = mem_thread_inside() ? 1 : -1;
	while (!worker.stop) {
		for (size_t i = 0; i < NR_KEPT; i++)
			worker.wrong += (*counter(i))++ != worker.rounds;
		worker.rounds++;
		sched_yield();
	}
	return NULL;
}

static void read_frames(uint64_t *to)
{
	static uint64_t entries[PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t len = PAGES * 8;

	if (fd < 0 || pread(fd, entries, len, (off_t)((uintptr_t)area / PAGE * 8)) != (ssize_t)len)
		ktap_bail("pagemap: %s", strerror(errno));
	close(fd);
	for (size_t i = 0; i < NR_KEPT; i++)
		to[i] = entries[i * KEPT] & MEM_PM_PFN;
}

static size_t moved(void)
{
	static uint64_t now[NR_KEPT];
	size_t n = 0;

	read_frames(now);
	for (size_t i = 0; i < NR_KEPT; i++)
		n += now[i] != frames[i];
	return n;
}

static void touch(size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		*(volatile unsigned char *)(area + i * PAGE) = 1;
}

/* Bytes that can be had without the OOM killer: MemFree counts what is kept for emergencies. */
static long available(void)
{
	long available = mem_field("/proc/meminfo", "MemAvailable");
	long unused = mem_field("/proc/meminfo", "MemFree");

	return (available < unused ? available : unused) * 1024L;
}

/*
 * Memory full of holes: each group of pages keeps one.  Compaction moves pages to the
 * upper end of a zone, and one half of these must not be there already: so nearly all
 * other memory is in use when the second half is made, which puts it at the other end.
 */
static void make_holes(void)
{
	size_t rest = 0;
	long spare = available() - 2L * (long)AREA;
	unsigned char *other;

	area = mem_new(AREA);
	madvise(area, AREA, MADV_NOHUGEPAGE);
	touch(0, PAGES / 2);
	if (spare > 0)
		rest = (size_t)spare & ~(2 * MIB - 1);
	other = rest ? mem_new(rest) : NULL;
	if (other) {
		madvise(other, rest, MADV_HUGEPAGE);
		for (size_t i = 0; i < rest; i += PAGE)
			*(volatile unsigned char *)(other + i) = 1;
	}
	touch(PAGES / 2, PAGES);
	if (other)
		munmap(other, rest);
	for (size_t i = 0; i < PAGES; i++)
		if (i % KEPT)
			madvise(area + i * PAGE, PAGE, MADV_DONTNEED);
	for (size_t i = 0; i < NR_KEPT; i++) {
		*counter(i) = 0;
		mem_fill(area + i * KEPT * PAGE + 8, PAGE - 8, i);
	}
}

static size_t wrong_pages(void)
{
	size_t wrong = 0;

	for (size_t i = 0; i < NR_KEPT; i++)
		wrong += mem_wrong(area + i * KEPT * PAGE + 8, PAGE - 8, i);
	return wrong;
}

/* One area, compacted while a thread counts in it. */
static struct outcome {
	size_t moved, wrong;
	int inside;
} compact_once(void)
{
	double end = child_now() + 20;
	struct outcome o;
	pthread_t thread;

	memset((void *)&worker, 0, sizeof(worker));
	make_holes();
	read_frames(frames);
	if (pthread_create(&thread, NULL, work, NULL))
		ktap_bail("pthread_create failed");
	while (worker.rounds < 2 && worker.inside >= 0)
		sched_yield();
	for (unsigned int i = 0; i < 5 || (moved() < MOVED && child_now() < end); i++)
		if (!mem_write_text("/proc/sys/vm/compact_memory", "1"))
			ktap_bail("compact_memory: %s", strerror(errno));
	worker.stop = 1;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < NR_KEPT; i++)
		worker.wrong += *counter(i) != worker.rounds;
	o = (struct outcome){ .moved = moved(), .wrong = wrong_pages(), .inside = worker.inside };
	ktap_note("%zu pages moved, %lu rounds, %lu counts and %zu pages wrong", o.moved,
		  worker.rounds, worker.wrong, o.wrong);
	o.wrong += worker.wrong;
	munmap(area, AREA);
	return o;
}

/* What compaction finds worth moving depends on where all other memory happens to lie. */
static void compact(void)
{
	struct outcome all = { .inside = 1 };

	frames = malloc(NR_KEPT * sizeof(*frames));
	for (unsigned int i = 0; i < TRIES && all.moved < MOVED; i++) {
		struct outcome o = compact_once();

		all.moved += o.moved;
		all.wrong += o.wrong;
		all.inside &= o.inside;
	}
	ktap_eq(all.inside, 1, "a thread in Dune mode counts");
	ktap_ok(all.moved >= MOVED, "compaction moved pages meanwhile");
	ktap_eq(all.wrong, 0, "no count was lost, and all other words are as they were");
}

static bool none_there(int status)
{
	return status == -ENOENT || status == -EFAULT;	/* kernels differ */
}

/* With one node there is nowhere to go; the answers and the contents must be right. */
static bool on_request(void)
{
	unsigned char *p = mem_new(16 * PAGE);
	void *pages[16];
	unsigned long mask = 1;
	int nodes[16], status[16];
	bool ok;

	mem_fill(p, 15 * PAGE, 1);
	for (size_t i = 0; i < 16; i++) {
		pages[i] = p + i * PAGE;
		nodes[i] = 0;
		status[i] = 99;
	}
	ok = syscall(SYS_move_pages, 0, 16, pages, NULL, status, 0) == 0;
	for (size_t i = 0; i < 16; i++)
		ok &= i < 15 ? status[i] == 0 : none_there(status[i]);
	ok &= syscall(SYS_move_pages, 0, 16, pages, nodes, status, MPOL_MF_MOVE) == 0;
	ok &= status[0] == 0 && none_there(status[15]);
	ok &= syscall(SYS_migrate_pages, 0, 64, &mask, &mask) == 0;
	ok &= syscall(SYS_mbind, p, 16 * PAGE, 2, &mask, 64, MPOL_MF_MOVE) == 0;
	ok &= mem_wrong(p, 15 * PAGE, 1) == 0 && mem_dirty(p + 15 * PAGE, PAGE) == 0;
	munmap(p, 16 * PAGE);
	return ok;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	dune_test_enter();
	compact();
	ktap_ok(on_request(), "move_pages, migrate_pages and mbind answer, and change no contents");
	return dune_test_done();
}
