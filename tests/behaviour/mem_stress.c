/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=150 slow-bochs=29 */
/*
 * Everything at once: eight threads in Dune mode map, move, protect, discard,
 * merge, collapse, fork and truncate, each on areas of its own whose every word
 * it knows, while they all count in memory that a native process shares, and
 * KSM and compaction move the pages.  mem_stress_long runs for a minute.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/falloc.h>
#include <pthread.h>
#include <sys/uio.h>

#ifndef MADV_COLD
#define MADV_COLD	20
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#ifndef SECONDS
#define SECONDS		3
#endif

#define THREADS		8
#define SLOTS		6		/* areas of a thread */
#define MOST_PAGES	128
#define COUNTERS	64		/* one per page of the memory shared by all */

struct slot {
	unsigned char *p;
	size_t pages;
	uint64_t seed;
	int fd;				/* a memfd; -1: private memory */
};

struct thread {
	pthread_t id;
	unsigned int nr, random;
	struct slot slot[SLOTS];
	volatile unsigned long ops, wrong, refused, forks, counted;
	volatile int inside, last_op;
};

static struct thread thread[THREADS];
static volatile int *stop;
static uint64_t *counters;		/* shared with the native process */
static unsigned long *native_counted;

static unsigned int pick(struct thread *t, unsigned int n)
{
	return (unsigned int)rand_r(&t->random) % n;
}

static void count(unsigned int i)
{
	__atomic_fetch_add(&counters[i % COUNTERS * (PAGE / 8)], 1, __ATOMIC_RELAXED);
}

static void renew(struct thread *t, struct slot *s)
{
	s->pages = 1 + pick(t, MOST_PAGES);
	s->seed = (uint64_t)t->nr << 24 | (t->ops & 0xffffff);
	s->fd = pick(t, 3) ? -1 : memfd_create("mem_stress", MFD_CLOEXEC);
	if (s->fd >= 0 && ftruncate(s->fd, (off_t)(s->pages * PAGE)))
		t->refused++;
	s->p = mmap(NULL, s->pages * PAGE, PROT_READ | PROT_WRITE,
		    s->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, s->fd, 0);
	if (s->p == MAP_FAILED) {
		t->refused++;
		s->p = NULL;
		return;
	}
	t->wrong += mem_dirty(s->p, s->pages * PAGE);
	mem_fill(s->p, s->pages * PAGE, s->seed);
}

static void drop(struct thread *t, struct slot *s)
{
	t->refused += munmap(s->p, s->pages * PAGE) != 0;
	if (s->fd >= 0)
		close(s->fd);
	s->p = NULL;
}

/* @n pages from @first lost their contents: zeroes, then the pattern again. */
static void refill(struct thread *t, struct slot *s, size_t first, size_t n)
{
	volatile uint64_t *w = (volatile uint64_t *)(s->p + first * PAGE);

	t->wrong += mem_dirty(s->p + first * PAGE, n * PAGE);
	for (size_t i = 0; i < n * PAGE / 8; i++)
		w[i] = mem_word(s->seed, first * PAGE / 8 + i);
}

static void move(struct thread *t, struct slot *s)
{
	size_t pages = s->pages + (s->fd < 0 ? pick(t, 32) : 0);
	unsigned char *p = mremap(s->p, s->pages * PAGE, pages * PAGE, MREMAP_MAYMOVE);
	size_t old = s->pages;

	if (p == MAP_FAILED) {
		t->refused++;
		return;
	}
	s->p = p;
	s->pages = pages;
	refill(t, s, old, pages - old);
}

/* The child has the same words, in Dune mode, and spoils its own copy. */
static void copy(struct thread *t, struct slot *s)
{
	int status = 0;
	pid_t pid;

	pid = fork();
	if (pid == 0) {
		if (dune_enter() || dune_test_cpl())
			_exit(DUNE_TEST_NOT_IN_GUEST);
		if (mem_wrong(s->p, s->pages * PAGE, s->seed))
			_exit(1);
		if (s->fd < 0)
			memset(s->p, 0xee, s->pages * PAGE);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		t->refused++;
		return;
	}
	t->forks++;
	t->wrong += status != 0;
}

static void through_calls(struct thread *t, struct slot *s)
{
	unsigned char buf[PAGE] __attribute__((aligned(8)));
	size_t page = pick(t, (unsigned int)s->pages);
	struct iovec local = { buf, PAGE }, remote = { s->p + page * PAGE, PAGE };

	t->refused += process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != (ssize_t)PAGE;
	t->wrong += mem_wrong_from(buf, PAGE, s->seed, page * PAGE / 8);
	if (s->fd >= 0) {
		t->refused += pread(s->fd, buf, PAGE, (off_t)(page * PAGE)) != (ssize_t)PAGE;
		t->wrong += mem_wrong_from(buf, PAGE, s->seed, page * PAGE / 8);
	}
}

static void shrink_file(struct thread *t, struct slot *s)
{
	size_t keep = pick(t, (unsigned int)s->pages);

	t->refused += ftruncate(s->fd, (off_t)(keep * PAGE)) != 0;
	t->refused += ftruncate(s->fd, (off_t)(s->pages * PAGE)) != 0;
	refill(t, s, keep, s->pages - keep);
}

static void one_op(struct thread *t)
{
	struct slot *s = &t->slot[pick(t, SLOTS)];
	size_t len, first, n;

	if (!s->p)
		renew(t, s);
	if (!s->p)
		return;
	len = s->pages * PAGE;
	first = pick(t, (unsigned int)s->pages);
	n = 1 + pick(t, (unsigned int)(s->pages - first));
	switch (t->last_op = (int)pick(t, 14)) {
	case 0:
		drop(t, s);
		return;
	case 1:
	case 2:
		move(t, s);
		break;
	case 3:
		t->refused += mprotect(s->p + first * PAGE, n * PAGE, PROT_NONE) != 0;
		t->refused += mprotect(s->p, len, PROT_READ) != 0;
		t->wrong += mem_wrong(s->p, len, s->seed);
		t->refused += mprotect(s->p, len, PROT_READ | PROT_WRITE) != 0;
		break;
	case 4:
		t->refused += madvise(s->p + first * PAGE, n * PAGE,
				      s->fd >= 0 ? MADV_REMOVE : MADV_DONTNEED) != 0;
		refill(t, s, first, n);
		break;
	case 5:		/* freed lazily, and written again before it is looked at */
		if (s->fd < 0)
			t->refused += madvise(s->p, len, MADV_FREE) != 0;
		s->seed += 1UL << 40;
		mem_fill(s->p, len, s->seed);
		madvise(s->p, len, MADV_PAGEOUT);
		break;
	case 6:
		t->refused += madvise(s->p, len, MADV_COLD) != 0;
		break;
	case 7:
		madvise(s->p, len, MADV_MERGEABLE);
		break;
	case 8:		/* may have no memory to do it with */
		madvise(s->p, len, MADV_HUGEPAGE);
		madvise(s->p, len, MADV_COLLAPSE);
		break;
	case 9:
		if (!t->forks || t->ops % 4 == 0)
			copy(t, s);
		break;
	case 10:
		through_calls(t, s);
		break;
	case 11:
		if (s->fd >= 0)
			shrink_file(t, s);
		break;
	case 12:
		t->refused += mlock(s->p, len) != 0 || munlock(s->p, len) != 0;
		break;
	default:
		s->seed += 1UL << 40;
		mem_fill(s->p, len, s->seed);
	}
	if (s->p)
		t->wrong += mem_wrong(s->p, s->pages * PAGE, s->seed);
}

static void *run(void *arg)
{
	struct thread *t = arg;

	t->inside = mem_thread_inside() ? 1 : -1;
	t->random = 1000 + t->nr;
	while (!*stop) {
		one_op(t);
		t->ops++;
		for (unsigned int i = 0; i < 8; i++)
			count((unsigned int)t->counted++);
	}
	for (size_t i = 0; i < SLOTS; i++) {
		if (!t->slot[i].p)
			continue;
		t->wrong += mem_wrong(t->slot[i].p, t->slot[i].pages * PAGE, t->slot[i].seed);
		drop(t, &t->slot[i]);
	}
	return NULL;
}

static int native(void *arg)
{
	(void)arg;
	while (!*stop) {
		count((unsigned int)(*native_counted)++);
		if (*native_counted % 1000 == 0)
			usleep(100);
	}
	return 0;
}

/* On a busy host a CPU may be away for most of the time. */
static bool enough(void)
{
	unsigned long ops = 0, forks = 0;

	for (unsigned int i = 0; i < THREADS; i++) {
		ops += thread[i].ops;
		forks += thread[i].forks;
	}
	return ops > THREADS && forks;
}

int main(void)
{
	unsigned long ops = 0, wrong = 0, refused = 0, forks = 0, counted, sum = 0;
	unsigned int inside = 0;
	struct child other;
	double end;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 6 + DUNE_TEST_LEAVE);
	stop = child_shared(PAGE);
	native_counted = child_shared(PAGE);
	counters = child_shared(COUNTERS * PAGE);
	other = child_start(native, NULL);
	dune_test_enter();
	child_go(&other);
	mem_write_text("/sys/kernel/mm/ksm/run", "1");
	for (unsigned int i = 0; i < THREADS; i++) {
		thread[i].nr = i;
		if (pthread_create(&thread[i].id, NULL, run, &thread[i]))
			ktap_bail("pthread_create failed");
	}
	for (end = child_now() + SECONDS; child_now() < end || (!enough() && child_now() < end + 60);
	     usleep(200000))
		mem_write_text("/proc/sys/vm/compact_memory", "1");
	*stop = 1;
	status = child_wait(&other);
	counted = *native_counted;
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(thread[i].id, NULL);
		inside += thread[i].inside == 1;
		ops += thread[i].ops;
		wrong += thread[i].wrong;
		refused += thread[i].refused;
		forks += thread[i].forks;
		counted += thread[i].counted;
	}
	mem_write_text("/sys/kernel/mm/ksm/run", "2");
	mem_write_text("/sys/kernel/mm/ksm/run", "0");
	for (unsigned int i = 0; i < COUNTERS; i++)
		sum += counters[i * (PAGE / 8)];

	ktap_metric("stress_ops", (long long)ops, "count");
	ktap_metric("stress_forks", (long long)forks, "count");
	ktap_eq(inside, THREADS, "all threads were in Dune mode");
	ktap_ok(ops > THREADS && forks > 0, "%lu operations, %lu forks", ops, forks);
	ktap_eq(refused, 0, "none was refused");
	ktap_eq(wrong, 0, "every word was what it had to be");
	ktap_ok(status == 0, "the native process ends well (%s)", child_status(status));
	ktap_eq(sum, counted, "and no count of the shared memory was lost");
	return dune_test_done();
}
