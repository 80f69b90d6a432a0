/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * How libdunegc starts: by the environment, in a program that knows nothing of Dune; and what
 * it does where Dune mode cannot be had.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_gc.h>
#include <gc.h>
#include <pthread.h>
#include <sys/wait.h>

static void *sleeper(void *arg)
{
	pause();
	return arg;
}

static void use(void)
{
	void **list = NULL;

	GC_INIT();
	for (int i = 0; i < 200000; i++) {
		void **next = GC_MALLOC(64);

		next[0] = i % 100 ? list : NULL;
		list = next;
	}
	GC_reachable_here(list);
}

/* A program that knows nothing of Dune: it is inside, and incremental. */
static int from_outside(const char *mode)
{
	setenv("GC_DUNE_MODE", mode, 1);
	setenv("GC_ENABLE_INCREMENTAL", "1", 1);
	use();
	return !GC_is_incremental_mode() || dune_gc_mode() == DUNE_GC_OFF || dune_test_cpl() != 0;
}

static int not_asked(const char *unused)
{
	(void)unused;
	setenv("GC_ENABLE_INCREMENTAL", "1", 1);
	use();
	return dune_gc_mode() != DUNE_GC_OFF || dune_test_cpl() != 3;
}

/* With another thread that is not in Dune mode. */
static int with_thread(const char *fallback)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, sleeper, NULL))
		return 99;
	if (fallback)
		setenv("GC_DUNE_FALLBACK", fallback, 1);
	setenv("GC_DUNE_MODE", "bits", 1);
	setenv("GC_ENABLE_INCREMENTAL", "1", 1);
	use();
	return dune_gc_mode() != DUNE_GC_OFF || !GC_is_incremental_mode() ||
	       dune_test_cpl() != 3;
}

static int status_of(int (*fn)(const char *arg), const char *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(arg));
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -status;
}

int main(void)
{
	ktap_plan(9 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	if (dune_test_native())
		ktap_bail("not in guest mode");
	ktap_eq(status_of(from_outside, "bits"), 0, "GC_DUNE_MODE=bits puts a program inside");
	ktap_eq(status_of(from_outside, "batched"), 0, "so does batched");
	ktap_eq(status_of(from_outside, "faults"), 0, "and faults");
	ktap_eq(status_of(from_outside, "off"), 1, "off does not");
	ktap_eq(status_of(not_asked, NULL), 0, "nothing happens where nobody asks");
	ktap_eq(status_of(from_outside, "fast"), 64, "an unknown mode ends the program");
	ktap_eq(status_of(with_thread, NULL), 70, "a thread outside, too");
	ktap_eq(status_of(with_thread, "0"), 70, "GC_DUNE_FALLBACK=0 is no permission");
	ktap_eq(status_of(with_thread, "1"), 0, "with permission libgc goes its own ways");
	dune_test_enter();
	return dune_test_done();
}
