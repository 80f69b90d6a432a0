/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=240 */
/*
 * The second stage follows the address space.  A thread outside Dune mode
 * changes mappings under the Dune thread's feet, which must never read what
 * is gone, write where it may not, or miss what is new.
 *
 * First in lockstep, where each stale translation is seen at once; then both
 * run freely, where faults and invalidations meet.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../trap.h"

#include <pthread.h>
#include <sched.h>

#define PAGE		4096UL
#define PAGES		64
#ifndef ROUNDS
#define ROUNDS		64		/* each page once; mmu_stress_long has more */
#define FREE_SECONDS	1.0
#endif
#define ENOUGH		100		/* changes by the thread that runs freely */

static unsigned char *area;		/* PAGES pages */
static unsigned char *other_area;	/* where mremap moves to */

/* One request to the outside thread at a time. */
enum request {
	NOTHING, DISCARD, READ_ONLY, NO_ACCESS, READ_WRITE, UNMAP, MAP, MOVE_AWAY, MOVE_BACK,
	FORK, FORK_CHECK, RUN_FREE, QUIT,
};

static volatile int request;
static unsigned char *volatile target;
static volatile long answer;
static volatile int free_stop;
static volatile unsigned long free_ops, free_errors;

static pid_t snapshot;			/* the forked child, with its pipe */
static int snapshot_go[2];

/* Forks a child that waits, then says whether @page still holds @want. */
static void take_snapshot(const unsigned char *page, unsigned char want)
{
	char byte;

	if (pipe(snapshot_go))
		abort();
	snapshot = fork();
	if (snapshot == 0) {
		close(snapshot_go[1]);
		if (read(snapshot_go[0], &byte, 1) < 0)
			_exit(2);
		_exit(*(const volatile unsigned char *)page == want ? 0 : 1);
	}
	close(snapshot_go[0]);
}

static long check_snapshot(void)
{
	int status = -1;

	close(snapshot_go[1]);
	waitpid(snapshot, &status, 0);
	return status;
}

/* Any change to any page, as fast as it goes; contents obey word_ok(). */
static void run_free(void)
{
	unsigned int seed = 4711;

	while (!free_stop) {
		unsigned char *p = area + (unsigned int)rand_r(&seed) % (PAGES - 4) * PAGE;
		size_t len = (1 + (unsigned int)rand_r(&seed) % 4) * PAGE;
		int bad = 0;

		switch (rand_r(&seed) % 5) {
		case 0:
		case 1:
			bad = madvise(p, len, MADV_DONTNEED);
			break;
		case 2:
			bad = mprotect(p, len, PROT_READ);
			bad |= mprotect(p, len, PROT_READ | PROT_WRITE);
			break;
		case 3:
			bad = mmap(p, len, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p;
			break;
		case 4:
			if (free_ops % 16 == 0) {	/* fork makes all of it copy-on-write */
				pid_t pid = fork();

				if (pid == 0)
					_exit(0);
				waitpid(pid, NULL, 0);
			}
			break;
		}
		free_errors += bad != 0;
		free_ops++;
	}
}

static long perform(int what, unsigned char *p)
{
	switch (what) {
	case DISCARD:
		return madvise(p, PAGE, MADV_DONTNEED);
	case READ_ONLY:
		return mprotect(p, PAGE, PROT_READ);
	case NO_ACCESS:
		return mprotect(p, PAGE, PROT_NONE);
	case READ_WRITE:
		return mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	case UNMAP:
		return munmap(p, PAGE);
	case MAP:
		return mmap(p, PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p;
	case MOVE_AWAY:
		return mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      other_area + (p - area)) != other_area + (p - area);
	case MOVE_BACK:
		return mremap(other_area + (p - area), PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			      p) != p;
	case FORK:
		take_snapshot(p, *p);
		return 0;
	case FORK_CHECK:
		return check_snapshot();
	case RUN_FREE:
		run_free();
		return 0;
	default:
		return 0;
	}
}

/* The thread that stays outside.  It has its answer ready before it takes the request away. */
static void *outside(void *arg)
{
	(void)arg;
	for (;;) {
		int what = __atomic_load_n(&request, __ATOMIC_ACQUIRE);

		if (what == NOTHING) {
			sched_yield();
			continue;
		}
		if (what == QUIT)
			return NULL;
		answer = perform(what, target);
		__atomic_store_n(&request, NOTHING, __ATOMIC_RELEASE);
	}
}

static void start(int what, unsigned char *p)
{
	target = p;
	__atomic_store_n(&request, what, __ATOMIC_RELEASE);
}

/* Has @what done to @p; meanwhile reads @p, so that faults and changes meet. */
static long have_done(int what, unsigned char *p, bool readable)
{
	unsigned int spins = 0;

	start(what, p);
	while (__atomic_load_n(&request, __ATOMIC_ACQUIRE) != NOTHING) {
		if (readable)
			(void)*(volatile unsigned char *)p;
		if (++spins % 1000 == 0)
			sched_yield();
	}
	return answer;
}

static int try_read(unsigned char *p)
{
	return TRAP_TRY("movzbl (%%rcx), %%eax", 0, p, 0);
}

static int try_write(unsigned char *p, unsigned char value)
{
	return TRAP_TRY("movb %%al, (%%rcx)", value, p, 0);
}

static struct {
	unsigned int calls;	/* the outside thread's calls that failed */
	unsigned int discard, read_only, no_access, unmapped, mapped, moved, snapshot;
} wrong;

static void lockstep_round(unsigned int round)
{
	unsigned char *p = area + round % PAGES * PAGE + round % 100;
	unsigned char *page = area + round % PAGES * PAGE;
	unsigned char value = (unsigned char)(round | 1);

	*p = value;
	wrong.calls += have_done(DISCARD, page, true) != 0;
	wrong.discard += *(volatile unsigned char *)p != 0;
	*p = value;

	wrong.calls += have_done(READ_ONLY, page, true) != 0;
	wrong.read_only += try_write(p, 0xee) != TRAP_PF || trap.cr2 != (uint64_t)p;
	wrong.read_only += try_read(p) != TRAP_NONE || (unsigned char)trap.rax != value;

	wrong.calls += have_done(NO_ACCESS, page, false) != 0;
	wrong.no_access += try_read(p) != TRAP_PF;
	wrong.calls += have_done(READ_WRITE, page, false) != 0;
	wrong.read_only += try_write(p, value + 2) != TRAP_NONE;
	wrong.read_only += *(volatile unsigned char *)p != (unsigned char)(value + 2);

	wrong.calls += have_done(FORK, page, true) != 0;
	*p = value;			/* the snapshot keeps what it saw at offset 0 */
	if (p == page)
		wrong.snapshot += *(volatile unsigned char *)p != value;
	*page = 0x77;
	wrong.snapshot += have_done(FORK_CHECK, page, true) != 0;
	wrong.snapshot += *(volatile unsigned char *)page != 0x77;

	wrong.calls += have_done(MOVE_AWAY, page, false) != 0;
	wrong.moved += try_read(page) != TRAP_PF;
	wrong.moved += try_read(other_area + (page - area)) != TRAP_NONE || trap.rax != 0x77;
	wrong.calls += have_done(MOVE_BACK, page, false) != 0;
	wrong.moved += try_read(other_area + (page - area)) != TRAP_PF;
	wrong.moved += try_read(page) != TRAP_NONE || trap.rax != 0x77;

	wrong.calls += have_done(UNMAP, page, false) != 0;
	wrong.unmapped += try_read(page) != TRAP_PF || try_write(page, 1) != TRAP_PF;
	wrong.calls += have_done(MAP, page, false) != 0;
	wrong.mapped += try_read(page) != TRAP_NONE || trap.rax != 0;
}

/*
 * Every word of page n is 0 or (n << 32 | something): a page that shows
 * another's words, or anybody else's memory, is a stale translation.
 */
static bool word_ok(uint64_t word, size_t page)
{
	return word == 0 || word >> 32 == page + 1;
}

static void free_running(void)
{
	double end = child_now() + FREE_SECONDS;
	unsigned long reads = 0, writes = 0, refused = 0, strange = 0;
	unsigned int seed = 99;

	memset(area, 0, PAGES * PAGE);
	start(RUN_FREE, area);
	/* A machine that is busy with other things may need longer for enough of them. */
	while (child_now() < end || (free_ops <= ENOUGH && child_now() < end + 60)) {
		for (unsigned int i = 0; i < 2000; i++) {
			size_t page = (unsigned int)rand_r(&seed) % PAGES;
			uint64_t *p = (uint64_t *)(area + page * PAGE) +
				      (unsigned int)rand_r(&seed) % 512;
			int got = TRAP_TRY("movq (%%rcx), %%rax", 0, p, 0);

			reads++;
			if (got == TRAP_NONE)
				strange += !word_ok(trap.rax, page);
			else
				refused++;
			if (i & 1) {
				got = TRAP_TRY("movq %%rax, (%%rcx)",
					       (uint64_t)(page + 1) << 32 | i, p, 0);
				writes++;
				refused += got != TRAP_NONE;
			}
		}
	}
	free_stop = 1;
	while (__atomic_load_n(&request, __ATOMIC_ACQUIRE) != NOTHING)
		sched_yield();

	/* At rest, and seen by a system call, it is the same. */
	for (size_t page = 0; page < PAGES; page++)
		for (size_t i = 0; i < 512; i++)
			strange += !word_ok(((uint64_t *)(area + page * PAGE))[i], page);

	ktap_metric("free_reads", (long long)reads, "count");
	ktap_metric("free_writes", (long long)writes, "count");
	ktap_metric("free_changes", (long long)free_ops, "count");
	ktap_note("%lu accesses met a page that was just read-only", refused);
	ktap_ok(free_ops > ENOUGH && free_errors == 0, "%lu changes while %lu reads ran freely", free_ops,
		reads);
	ktap_eq(strange, 0, "no word was seen that does not belong there");
}

/* A huge page is broken up by discarding one small page of it. */
static void huge_page(void)
{
	const size_t huge = 2UL << 20;
	unsigned char *p = mmap(NULL, 2 * huge, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *at = (unsigned char *)(((uintptr_t)p + huge - 1) & ~(huge - 1));
	unsigned int bad = 0;

	madvise(at, huge, MADV_HUGEPAGE);
	for (size_t i = 0; i < huge; i += PAGE)
		at[i] = (unsigned char)(i >> 12 | 1);
	for (size_t i = 0; i < huge; i += 16 * PAGE) {
		bad += have_done(DISCARD, at + i, true) != 0;
		bad += *(volatile unsigned char *)(at + i) != 0;
		bad += *(volatile unsigned char *)(at + i + PAGE) !=
		       (unsigned char)((i + PAGE) >> 12 | 1);
	}
	ktap_eq(bad, 0, "small pages discarded out of a huge one");
	munmap(p, 2 * huge);
}

int main(void)
{
	pthread_t thread;

	ktap_plan(DUNE_TEST_ENTER + 12 + DUNE_TEST_LEAVE);
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	other_area = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || other_area == MAP_FAILED ||
	    pthread_create(&thread, NULL, outside, NULL))
		ktap_bail("set-up failed");
	dune_test_enter();
	trap_install();

	for (unsigned int round = 0; round < ROUNDS; round++)
		lockstep_round(round);
	ktap_eq(wrong.calls, 0, "%d rounds of changes by the thread outside", ROUNDS);
	ktap_eq(wrong.discard, 0, "a discarded page reads as zeroes");
	ktap_eq(wrong.read_only, 0,
		"a page made read-only refuses writes, and takes them again later");
	ktap_eq(wrong.no_access, 0, "a page made inaccessible refuses reads");
	ktap_eq(wrong.snapshot, 0, "writes after a fork stay out of the child's copy");
	ktap_eq(wrong.moved, 0, "a moved page is there and no longer here");
	ktap_eq(wrong.unmapped, 0, "an unmapped page refuses everything");
	ktap_eq(wrong.mapped, 0, "a new mapping is empty");
	huge_page();
	free_running();

	start(QUIT, area);
	ktap_eq(pthread_join(thread, NULL), 0, "the thread outside ends");
	return dune_test_done();
}
