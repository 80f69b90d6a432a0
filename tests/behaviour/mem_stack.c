/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=10 */
/*
 * Stacks in Dune mode grow as far as Linux lets them, with their contents, and
 * what lies beyond ends the process as it does natively.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#include <pthread.h>
#include <sys/resource.h>

#define LIMIT		(6 * MIB)

/* ---- the main stack --------------------------------------------------- */

/* Each level holds words of its own and checks them on the way back. */
__attribute__((noinline)) static unsigned long descend(unsigned long depth)
{
	volatile uint64_t frame[256];
	unsigned long wrong;

	for (unsigned int i = 0; i < 256; i++)
		frame[i] = mem_word(depth, i);
	wrong = depth ? descend(depth - 1) : 0;
	for (unsigned int i = 0; i < 256; i++)
		wrong += frame[i] != mem_word(depth, i);
	return wrong;
}

/* Returns 0 if the frames were whole, does not return if the stack ends before. */
static int use_stack(void *arg)
{
	struct rlimit limit = { LIMIT, LIMIT };
	size_t bytes = (size_t)(uintptr_t)arg;

	if (setrlimit(RLIMIT_STACK, &limit))
		return 1;
	return descend(bytes / (256 * 8)) ? 2 : 0;
}

static int without_limit(void *arg)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	(void)arg;
	if (setrlimit(RLIMIT_STACK, &limit))
		return 1;
	return descend(24 * MIB / (256 * 8)) ? 2 : 0;
}

/* One large frame: the kernel grows the stack by more than a page at once. */
static int big_step(void *arg)
{
	volatile unsigned char *p = (volatile unsigned char *)__builtin_frame_address(0) - MIB;

	(void)arg;
	*p = 7;
	return *p == 7 && p[1] == 0 ? 0 : 1;
}

/* ---- MAP_GROWSDOWN ----------------------------------------------------- */

static unsigned char *grows_down(void)
{
	unsigned char *room = mem_new(1024 * PAGE), *p;

	munmap(room, 1024 * PAGE);
	p = mmap(room + 1000 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
	if (p == MAP_FAILED)
		_exit(9);
	return p;
}

static int grow_page_by_page(void *arg)
{
	unsigned char *p = grows_down();

	(void)arg;
	mem_fill(p, 4 * PAGE, 1);
	for (size_t i = 1; i <= 200; i++)
		mem_fill(p - i * PAGE, PAGE, 100 + i);
	for (size_t i = 1; i <= 200; i++)
		if (mem_wrong(p - i * PAGE, PAGE, 100 + i))
			return 1;
	return mem_wrong(p, 4 * PAGE, 1) ? 2 : 0;
}

static int grow_by_reading(void *arg)
{
	unsigned char *p = grows_down();

	(void)arg;
	mem_fill(p, 4 * PAGE, 2);
	for (size_t i = 1; i <= 100; i++)
		if (mem_dirty(p - 2 * i * PAGE, PAGE))
			return 1;
	return mem_wrong(p, 4 * PAGE, 2) ? 2 : 0;
}

/* The gap to a neighbour below stays free (256 pages, man 7 kernel-parameters). */
static int grow_into_gap(void *arg)
{
	unsigned char *p = grows_down();

	if (mmap(p - 300 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return 9;
	for (size_t i = 1; i <= (uintptr_t)arg; i++)
		*(volatile unsigned char *)(p - i * PAGE) = 1;
	return 0;
}

/* ---- a thread's stack --------------------------------------------------- */

static void *overflow(void *arg)
{
	if (!mem_thread_inside())
		_exit(DUNE_TEST_NOT_IN_GUEST);
	return (void *)descend((uintptr_t)arg / (256 * 8));
}

static int thread_stack(void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	void *wrong = (void *)1;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, MIB);
	pthread_attr_setguardsize(&attr, 8 * PAGE);
	if (pthread_create(&thread, &attr, overflow, arg) || pthread_join(thread, &wrong))
		return 1;
	return wrong ? 2 : 0;
}

/* The native twin of it must not enter. */
static void *overflow_natively(void *arg)
{
	return (void *)descend((uintptr_t)arg / (256 * 8));
}

static int native_thread_stack(void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, MIB);
	pthread_attr_setguardsize(&attr, 8 * PAGE);
	if (pthread_create(&thread, &attr, overflow_natively, arg))
		return 1;
	return pthread_join(thread, NULL) ? 1 : 0;
}

static const struct {
	const char *what;
	int (*fn)(void *);
	int (*native)(void *);
	uintptr_t arg;
	int signal;		/* that it dies of, natively; 0: it returns 0 */
} cases[] = {
	{ "the main stack, 5 of 6 MiB", use_stack, NULL, 5 * MIB, 0 },
	{ "the main stack, beyond the limit", use_stack, NULL, 7 * MIB, SIGSEGV },
	{ "the main stack without a limit, 24 MiB", without_limit, NULL, 0, 0 },
	{ "a step of 1 MiB", big_step, NULL, 0, 0 },
	{ "MAP_GROWSDOWN, 200 pages by writing", grow_page_by_page, NULL, 0, 0 },
	{ "MAP_GROWSDOWN, 200 pages by reading", grow_by_reading, NULL, 0, 0 },
	{ "MAP_GROWSDOWN, up to the gap", grow_into_gap, NULL, 43, 0 },
	{ "MAP_GROWSDOWN, into the gap", grow_into_gap, NULL, 60, SIGSEGV },
	{ "a thread's stack, 3/4 of it", thread_stack, native_thread_stack, 768 << 10, 0 },
	{ "a thread's stack, into its guard", thread_stack, native_thread_stack, 2 * MIB, SIGSEGV },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct child native[CASES];

	ktap_plan(DUNE_TEST_ENTER + 2 * CASES + 2 + DUNE_TEST_LEAVE);
	for (size_t i = 0; i < CASES; i++)
		native[i] = child_start(cases[i].native ? cases[i].native : cases[i].fn,
					(void *)cases[i].arg);
	dune_test_enter();

	for (size_t i = 0; i < CASES; i++) {
		int status, inside;

		child_go(&native[i]);
		status = child_wait(&native[i]);
		ktap_ok(cases[i].signal ? WIFSIGNALED(status) && WTERMSIG(status) == cases[i].signal :
					  status == 0,
			"%s, natively: %s", cases[i].what, child_status(status));
		inside = mem_child(cases[i].fn, (void *)cases[i].arg);
		ktap_ok(inside == status, "%s, in Dune mode: %s", cases[i].what,
			child_status(inside));
	}
	ktap_eq(descend(4 * MIB / (256 * 8)), 0, "this process's own stack, 4 MiB of it");
	trap_install();
	ktap_eq(TRAP_TRY("movzbl (%%rcx), %%eax", 0, 0x1000, 0), TRAP_PF, "and its handlers work on it");
	return dune_test_done();
}
