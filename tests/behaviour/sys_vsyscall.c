/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * The vsyscall page answers in Dune mode as it does natively, which is a matter
 * of the kernel's vsyscall= parameter: nothing is there, or calls are emulated,
 * or the page can be read as well.  Each case runs in a child natively and in
 * Dune mode and must end the same way.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <sys/time.h>
#include <time.h>

#define VSYSCALL	0xffffffffff600000UL

/* Seconds that were read after @before; those of the coarse clock may lag behind. */
static int is_now(time_t t, time_t before)
{
	return t >= before - 1 && t <= time(NULL) ? 42 : 1;
}

static int vsyscall_gettimeofday(void *arg)
{
	int (*fn)(struct timeval *, void *) =
		(int (*)(struct timeval *, void *))(uintptr_t)VSYSCALL;
	struct timeval tv = { 0, 0 };
	time_t before = time(NULL);

	(void)arg;
	return fn(&tv, NULL) == 0 ? is_now(tv.tv_sec, before) : 2;
}

static int vsyscall_time(void *arg)
{
	time_t (*fn)(time_t *) = (time_t (*)(time_t *))(uintptr_t)(VSYSCALL + 0x400);

	time_t before = time(NULL);

	(void)arg;
	return is_now(fn(NULL), before);
}

static int vsyscall_getcpu(void *arg)
{
	long (*fn)(unsigned int *, unsigned int *, void *) =
		(long (*)(unsigned int *, unsigned int *, void *))(uintptr_t)(VSYSCALL + 0x800);
	unsigned int cpu = 999, node = 999;

	(void)arg;
	return fn(&cpu, &node, NULL) == 0 && cpu < 64 && node == 0 ? 42 : 1;
}

static int vsyscall_bad_pointer(void *arg)
{
	int (*fn)(struct timeval *, void *) =
		(int (*)(struct timeval *, void *))(uintptr_t)VSYSCALL;

	(void)arg;
	return fn((struct timeval *)0x10, NULL) ? 43 : 44;
}

static int vsyscall_read(void *arg)
{
	(void)arg;
	return *(volatile unsigned char *)(uintptr_t)VSYSCALL ? 45 : 46;
}

static const struct {
	const char *name;
	int (*fn)(void *);
} vsyscalls[] = {
	{ "gettimeofday", vsyscall_gettimeofday }, { "time", vsyscall_time },
	{ "getcpu", vsyscall_getcpu }, { "gettimeofday with a bad pointer", vsyscall_bad_pointer },
	{ "a read of the page", vsyscall_read },
};

#define VSYSCALLS	(sizeof(vsyscalls) / sizeof(vsyscalls[0]))

int main(void)
{
	struct child native[VSYSCALLS];

	ktap_plan(DUNE_TEST_ENTER + VSYSCALLS + DUNE_TEST_LEAVE);
	for (size_t i = 0; i < VSYSCALLS; i++)
		native[i] = child_start(vsyscalls[i].fn, NULL);
	dune_test_enter();
	for (size_t i = 0; i < VSYSCALLS; i++) {
		int want, got;

		child_go(&native[i]);
		want = child_wait(&native[i]);
		got = mem_child(vsyscalls[i].fn, NULL);
		ktap_note("natively: %s", child_status(want));
		ktap_ok(got == want, "vsyscall %s: %s", vsyscalls[i].name, child_status(got));
	}
	return dune_test_done();
}
