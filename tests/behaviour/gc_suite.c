/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=1500 slow=900 */
/*
 * libgc's own tests (its make check) on libdunegc, in Dune mode, with each way to find dirty
 * pages: libdunegc's and libgc's.  Those that take minutes are in gc_suite_long.c; two are
 * left out: staticrootstest is about libgc as a shared library, disclaim_bench measures.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <dune_gc.h>
#include <gc.h>
#include <sys/mman.h>
#include <sys/wait.h>

struct own_test {
	const char *name;
	int (*main)(int argc, char **argv);
	bool other;		/* looks for leaks, which libgc cannot do incrementally, or does
				   not begin to collect */
};

#ifndef LONG
#define TESTS							\
	TEST(leak_test, true) TEST(middle, false)		\
	TEST(smash_test, false) TEST(huge_test, false)		\
	TEST(realloc_test, false) TEST(test_atomic_ops, true)	\
	TEST(thread_leak_test, true) TEST(threadkey_test, false)\
	TEST(subthread_create, false)				\
	TEST(initsecondarythread, false)			\
	TEST(disclaim_test, false) TEST(cordtest, false)
#define SECONDS	60
#endif

#define TEST(name, other)	int libgc_##name(int argc, char **argv);
TESTS
#undef TEST
#define TEST(name, other)	{ #name, libgc_##name, other },
static const struct own_test own_tests[] = { TESTS };
#undef TEST

#define NR_TESTS	(sizeof(own_tests) / sizeof(own_tests[0]))

static const struct way {
	const char *name, *soft_dirty;
	enum dune_gc_mode mode;
} ways[] = {
	{ "bits", "0", DUNE_GC_BITS },
	{ "batched", "0", DUNE_GC_BATCHED },
	{ "faults", "0", DUNE_GC_FAULTS },
	{ "mprotect", "0", DUNE_GC_OFF },
	{ "softdirty", "1", DUNE_GC_OFF },
};

#define NR_WAYS	(sizeof(ways) / sizeof(ways[0]))

enum { RIGHT = 40, WRONG_MODE, NOT_INSIDE };

/* Ends the child: what main() returned, and whether it ran as it should have. */
static void run(const struct own_test *t, const struct way *way, int out)
{
	char *argv[] = { (char *)t->name, NULL };
	int status;

	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	setvbuf(stdout, NULL, _IOLBF, 0);
	setenv("GC_USE_GETWRITEWATCH", way->soft_dirty, 1);
	if (!t->other)
		setenv("GC_ENABLE_INCREMENTAL", "1", 1);
	dune_gc_set_mode(way->mode);
	alarm(SECONDS);
	status = t->main(1, argv);
	if (status)
		_exit(status);
	fflush(stdout);
	if (!t->other && (!GC_is_incremental_mode() || dune_gc_mode() != way->mode))
		_exit(WRONG_MODE);
	_exit(dune_test_cpl() == 0 ? RIGHT : NOT_INSIDE);
}

/* The last lines of what the child printed. */
static void tell(int out)
{
	char text[3000];
	off_t size = lseek(out, 0, SEEK_END), from = size > 2999 ? size - 2999 : 0;
	ssize_t n = pread(out, text, sizeof(text) - 1, from);
	char *save, *line;

	text[n > 0 ? n : 0] = 0;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ktap_note("| %s", line);
}

static void one(const struct own_test *t, const struct way *way)
{
	int out = memfd_create("out", 0), status = -1;
	pid_t pid = out < 0 ? -1 : fork();
	bool ok;

	if (!pid)
		run(t, way, out);
	ok = pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	     WEXITSTATUS(status) == RIGHT;
	if (!ok) {
		ktap_note("status 0x%x%s", status,
			  WIFEXITED(status) && WEXITSTATUS(status) == WRONG_MODE ?
			  ": the mode is not what was asked for" : "");
		tell(out);
	}
	ktap_ok(ok, "%s, %s", t->name, way->name);
	close(out);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + NR_TESTS * NR_WAYS + DUNE_TEST_LEAVE);
	dune_test_enter();
	for (size_t i = 0; i < NR_TESTS; i++)
		for (size_t k = 0; k < NR_WAYS; k++)
			one(&own_tests[i], &ways[k]);
	return dune_test_done();
}
