/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=16 */
/*
 * Memory shared between a process in Dune mode and a native one: each sees at
 * once what the other writes, discards and locks.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <linux/falloc.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

#define PAGES	64
#define LEN	(PAGES * PAGE)
#define ROUNDS	100
#define COUNTS	50000

/* What the two tell each other; lies in shared memory of its own. */
static struct {
	volatile uint32_t turn;		/* odd: the native side's */
	volatile unsigned long native_wrong;
	volatile unsigned long counter, guarded;
	volatile int go, cpl;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	volatile int stage;
	volatile uint32_t futex;
	volatile long woken;
} *talk;

struct area {
	const char *name;
	unsigned char *p;
	int fd;
};

static struct area area[3];

#define AREAS	(sizeof(area) / sizeof(area[0]))

static void wait_turn(uint32_t turn)
{
	double end = child_now() + 30;

	while (__atomic_load_n(&talk->turn, __ATOMIC_ACQUIRE) != turn) {
		sched_yield();
		if (child_now() > end)
			_exit(77);
	}
}

static void next_turn(uint32_t turn)
{
	__atomic_store_n(&talk->turn, turn, __ATOMIC_RELEASE);
}

/* Round r: Dune writes seed 2r, the native side checks it and writes 2r + 1, Dune checks. */
static void native_rounds(const struct area *a)
{
	for (unsigned int r = 0; r < ROUNDS; r++) {
		wait_turn(2 * r + 1);
		talk->native_wrong += mem_wrong(a->p, LEN, 2 * r);
		mem_fill(a->p, LEN, 2 * r + 1);
		/* Holes: the file loses a page, and reads as zeroes there. */
		if (a->fd >= 0 && r % 8 == 7 &&
		    fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)(r % PAGES * PAGE), PAGE))
			talk->native_wrong++;
		next_turn(2 * r + 2);
	}
}

static size_t dune_rounds(const struct area *a)
{
	size_t wrong = 0;

	next_turn(0);
	for (unsigned int r = 0; r < ROUNDS; r++) {
		size_t hole = r % PAGES * PAGE;

		mem_fill(a->p, LEN, 2 * r);
		next_turn(2 * r + 1);
		wait_turn(2 * r + 2);
		if (a->fd >= 0 && r % 8 == 7) {
			wrong += mem_dirty(a->p + hole, PAGE);
			mem_fill(a->p + hole, PAGE, 1);
			wrong += mem_wrong(a->p, hole, 2 * r + 1);
		} else {
			wrong += mem_wrong(a->p, LEN, 2 * r + 1);
		}
	}
	next_turn(~0U);
	return wrong;
}

static void count(void)
{
	for (unsigned int i = 0; i < COUNTS; i++) {
		__atomic_fetch_add(&talk->counter, 1, __ATOMIC_SEQ_CST);
		if (i % 100 == 0) {
			pthread_mutex_lock(&talk->lock);
			talk->guarded = talk->guarded + 1;
			pthread_mutex_unlock(&talk->lock);
		}
	}
}

/* One after the other, by a condition variable. */
static int stages(int mine)
{
	for (int i = 0; i < 50; i++) {
		pthread_mutex_lock(&talk->lock);
		while (talk->stage % 2 != mine)
			pthread_cond_wait(&talk->changed, &talk->lock);
		talk->stage++;
		pthread_cond_broadcast(&talk->changed);
		pthread_mutex_unlock(&talk->lock);
	}
	return 0;
}

static int native(void *arg)
{
	struct timespec limit = { 20, 0 };

	(void)arg;
	talk->cpl = (int)dune_test_cpl();
	for (size_t i = 0; i < AREAS; i++) {
		native_rounds(&area[i]);
		wait_turn(~0U);
		next_turn(~1U);
	}
	while (!talk->go)
		sched_yield();
	count();
	stages(1);
	syscall(SYS_futex, &talk->futex, FUTEX_WAIT, 0, &limit, NULL, 0);
	talk->woken = talk->futex;
	return 0;
}

/* A private mapping of the file keeps its own writes to itself. */
static bool private_view(const struct area *a)
{
	unsigned char *own = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE, a->fd, 0);
	bool ok = own != MAP_FAILED;

	if (!ok)
		return false;
	mem_fill(a->p, LEN, 500);
	ok = mem_wrong(own, LEN, 500) == 0;
	mem_fill(own, LEN / 2, 501);
	ok &= mem_wrong(a->p, LEN, 500) == 0 && mem_wrong(own, LEN / 2, 501) == 0;
	mem_fill(a->p, LEN, 502);
	ok &= mem_wrong(own, LEN / 2, 501) == 0;
	ok &= mem_wrong_from(own + LEN / 2, LEN / 2, 502, LEN / 16) == 0;
	munmap(own, LEN);
	return ok;
}

/* write(2) and read(2) see the mapping's contents, and it sees theirs. */
static bool by_calls(const struct area *a)
{
	static unsigned char buf[4 * PAGE];
	bool ok;

	mem_fill(a->p, LEN, 600);
	ok = pread(a->fd, buf, sizeof(buf), 8 * PAGE) == sizeof(buf) &&
	     mem_wrong_from(buf, sizeof(buf), 600, 8 * PAGE / 8) == 0;
	mem_fill(buf, sizeof(buf), 601);
	ok &= pwrite(a->fd, buf, sizeof(buf), 16 * PAGE) == sizeof(buf) &&
	      mem_wrong(a->p + 16 * PAGE, sizeof(buf), 601) == 0;
	/* A call that reads from the mapping into the mapping. */
	ok &= pread(a->fd, a->p + 40 * PAGE, 4 * PAGE, 16 * PAGE) == 4 * PAGE &&
	      mem_wrong(a->p + 40 * PAGE, 4 * PAGE, 601) == 0;
	ok &= msync(a->p, LEN, MS_SYNC) == 0 && mem_wrong(a->p, 8 * PAGE, 600) == 0;
	return ok;
}

static void make_areas(void)
{
	char name[] = "/tmp/mem_sharing-XXXXXX";

	area[0] = (struct area){ "anonymous memory", child_shared(LEN), -1 };
	area[1] = (struct area){ "a memfd", NULL, memfd_create("mem_sharing", MFD_CLOEXEC) };
	area[2] = (struct area){ "a file on tmpfs", NULL, mkstemp(name) };
	unlink(name);
	for (size_t i = 1; i < AREAS; i++) {
		if (area[i].fd < 0 || ftruncate(area[i].fd, LEN))
			ktap_bail("%s: %s", area[i].name, strerror(errno));
		area[i].p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, area[i].fd, 0);
		if (area[i].p == MAP_FAILED)
			ktap_bail("%s: %s", area[i].name, strerror(errno));
	}
}

static void make_locks(void)
{
	pthread_mutexattr_t mattr;
	pthread_condattr_t cattr;

	pthread_mutexattr_init(&mattr);
	pthread_mutexattr_setpshared(&mattr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&talk->lock, &mattr);
	pthread_condattr_init(&cattr);
	pthread_condattr_setpshared(&cattr, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&talk->changed, &cattr);
}

int main(void)
{
	struct child other;
	int status;

	ktap_plan(DUNE_TEST_ENTER + AREAS + 6 + 4 + DUNE_TEST_LEAVE);
	talk = child_shared(sizeof(*talk));
	make_areas();
	make_locks();
	other = child_start(native, NULL);
	dune_test_enter();
	talk->turn = ~1U;
	child_go(&other);

	for (size_t i = 0; i < AREAS; i++) {
		size_t wrong;

		wait_turn(~1U);
		wrong = dune_rounds(&area[i]);
		ktap_ok(wrong == 0 && talk->native_wrong == 0,
			"%s: %d rounds in both directions (%zu words wrong here, %lu there)",
			area[i].name, ROUNDS, wrong, talk->native_wrong);
	}
	wait_turn(~1U);
	ktap_eq(talk->cpl, 3, "the other process is native");

	talk->go = 1;
	count();
	ktap_eq(stages(0), 0, "a condition variable across the two, fifty times each");
	while (talk->counter < 2 * COUNTS)
		sched_yield();
	ktap_eq(talk->counter, 2 * COUNTS, "a counter that both add to");
	ktap_eq(talk->guarded, 2 * COUNTS / 100, "and one under a mutex that both take");

	usleep(50000);
	talk->futex = 42;
	syscall(SYS_futex, &talk->futex, FUTEX_WAKE, 1, NULL, NULL, 0);
	status = child_wait(&other);
	ktap_ok(status == 0, "the native one ends well (%s)", child_status(status));
	ktap_eq(talk->woken, 42, "woken through a futex from Dune mode");
	for (size_t i = 1; i < AREAS; i++) {
		ktap_ok(private_view(&area[i]), "%s: a private view beside the shared one",
			area[i].name);
		ktap_ok(by_calls(&area[i]), "%s: read and write of the file under the mapping",
			area[i].name);
	}
	return dune_test_done();
}
