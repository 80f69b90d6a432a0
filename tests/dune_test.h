/* SPDX-License-Identifier: MIT */
/*
 * Entering Dune mode in a test, and proving it.
 *
 *	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
 *	dune_test_enter();
 *	ktap_ok(...);
 *	ktap_ok(...);
 *	return dune_test_done();
 *
 * dune_test_enter() gives three results: the CPL is 0, a privileged
 * instruction works, and the vCPU's own counters move across one forwarded
 * system call.  An ordinary process has none of the three.
 *
 * With DUNE_TEST_NATIVE in the environment the program does not enter, and
 * must fail: that is how the bench checks the checks.
 */
#ifndef TESTS_DUNE_TEST_H
#define TESTS_DUNE_TEST_H

#include <libdune/dune.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "ktap.h"

#define DUNE_TEST_ENTER		3
#define DUNE_TEST_LEAVE		1

#define DUNE_TEST_CR0_PE	(1UL << 0)
#define DUNE_TEST_CR0_PG	(1UL << 31)

/* What a child that should be in guest mode and is not exits with. */
#define DUNE_TEST_NOT_IN_GUEST	111

static uint64_t dune_test_first_entries;

static inline unsigned int dune_test_cpl(void)
{
	unsigned short cs;

	asm volatile("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

static inline unsigned long dune_test_cr3(void)
{
	unsigned long cr3;

	asm volatile("mov %%cr3, %0" : "=r"(cr3));
	return cr3;
}

static inline bool dune_test_native(void)
{
	return getenv("DUNE_TEST_NATIVE") != NULL;
}

/*
 * A copy of this thread's counters; all zero outside Dune mode.  An exit may
 * come in the middle of the copy: then it is taken again.
 */
static inline struct dune_stats dune_test_stats(void)
{
	const volatile struct dune_stats *stats = dune_vcpu_stats();
	struct dune_stats copy;

	memset(&copy, 0, sizeof(copy));
	while (stats) {
		memcpy(&copy, (const void *)stats, sizeof(copy));
		asm volatile("" : : : "memory");
		if (copy.entries == stats->entries)
			break;
	}
	return copy;
}

static inline uint64_t dune_test_hypercalls(void)
{
	return dune_test_stats().exit[DUNE_STAT_HYPERCALL].count;
}

static sigjmp_buf dune_test_refused;

static void dune_test_on_sigsegv(int sig)
{
	(void)sig;
	siglongjmp(dune_test_refused, 1);
}

static unsigned long dune_test_read_cr0(void)
{
	unsigned long cr0;

	asm volatile("mov %%cr0, %0" : "=r"(cr0));
	return cr0;
}

/* MOV from CR0 is #GP at CPL 3 (SDM vol. 2, MOV control registers). */
static bool dune_test_privileged(void)
{
	struct sigaction act, old;
	volatile bool works = false;

	if (dune_test_cpl() == 0)
		return (~dune_test_read_cr0() & (DUNE_TEST_CR0_PE | DUNE_TEST_CR0_PG)) == 0;

	memset(&act, 0, sizeof(act));
	act.sa_handler = dune_test_on_sigsegv;
	sigaction(SIGSEGV, &act, &old);
	if (sigsetjmp(dune_test_refused, 1) == 0)
		works = dune_test_read_cr0() != 0;
	sigaction(SIGSEGV, &old, NULL);
	return works;
}

static bool dune_test_counters_move(void)
{
	struct dune_stats before = dune_test_stats(), after;

	syscall(SYS_getpid);
	after = dune_test_stats();
	return after.entries > before.entries &&
	       after.exit[DUNE_STAT_HYPERCALL].count > before.exit[DUNE_STAT_HYPERCALL].count;
}

/* Enters this thread; NULL, or why it is not in guest mode.  Says nothing: for children. */
__attribute__((unused)) static const char *dune_test_enter_silently(void)
{
	if (!dune_test_native() && dune_init_and_enter() != 0)
		return "dune_init_and_enter failed";
	if (dune_test_cpl() != 0)
		return "the CPL is not 0";
	if (!dune_test_privileged())
		return "a privileged instruction does not work";
	if (!dune_test_counters_move())
		return "the exit counters stand still";
	return NULL;
}

/* For a child: enters, or ends the child with a status that no test expects. */
__attribute__((unused)) static void dune_test_child_enter(void)
{
	const char *why = dune_test_enter_silently();

	if (why) {
		ktap_note("child %d: %s", (int)getpid(), why);
		_exit(DUNE_TEST_NOT_IN_GUEST);
	}
}

/* The three results, after somebody called dune_enter(). */
static void dune_test_prove(void)
{
	bool ok = ktap_eq(dune_test_cpl(), 0, "the CPL is 0");

	ok &= ktap_ok(dune_test_privileged(), "a privileged instruction works");
	ok &= ktap_ok(dune_test_counters_move(), "the exit counters move");
	if (!ok)
		ktap_bail("not in guest mode");
	dune_test_first_entries = dune_test_stats().entries;
}

/* Enters this thread and proves it. */
__attribute__((unused)) static void dune_test_enter(void)
{
	if (!dune_test_native()) {
		int ret = dune_init_and_enter();

		if (ret)
			ktap_bail("dune_init_and_enter: %s (%d)", strerror(-ret), ret);
	}
	dune_test_prove();
}

/* Still in guest mode at the end?  Prints the facts; gives the exit status. */
__attribute__((unused)) static int dune_test_done(void)
{
	unsigned int cpl = dune_test_cpl();
	bool inside = cpl == 0 && dune_test_privileged() && dune_test_counters_move();
	uint64_t grown = dune_test_stats().entries - dune_test_first_entries;

	ktap_ok(inside, "still in guest mode");
	ktap_fact("cpl", "%u", cpl);
	ktap_fact("exits", "%llu", (unsigned long long)grown);
	return ktap_done();
}

#endif /* TESTS_DUNE_TEST_H */
