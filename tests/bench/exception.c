/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount */
/*
 * Delivery of an exception to a handler and the return from it: in guest mode
 * through the process's own IDT, natively as a signal.  Three exceptions: #UD
 * and #DE, whose handlers step over the instruction, and #BP, which needs not.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../trap.h"
#include "bench.h"

#include <ucontext.h>

#define EXCEPTIONS	200

static void raise_ud(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		asm volatile("ud2" : : : "memory");
}

static void raise_de(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		int a = 1, d = 0;

		asm volatile("idivl %2" : "+a"(a), "+d"(d) : "c"(0) : "memory", "cc");
	}
}

static void raise_bp(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		asm volatile("int3" : : : "memory");
}

static volatile unsigned int handled;

static void dune_skip(struct dune_tf *tf)
{
	handled++;
	tf->rip += 2;
}

static void dune_count(struct dune_tf *tf)
{
	(void)tf;
	handled++;
}

static void native_skip(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	handled++;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void native_count(int sig)
{
	(void)sig;
	handled++;
}

static const struct {
	const char *name;
	void (*raise)(unsigned int n, void *arg);
	int sig;
	int vector;
} cases[] = {
	{ "ud", raise_ud, SIGILL, TRAP_UD },
	{ "de", raise_de, SIGFPE, TRAP_DE },
	{ "bp", raise_bp, SIGTRAP, TRAP_BP },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

static void handle_natively(unsigned int i)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	if (cases[i].vector == TRAP_BP) {
		act.sa_handler = native_count;
	} else {
		act.sa_sigaction = native_skip;
		act.sa_flags = SA_SIGINFO;
	}
	sigaction(cases[i].sig, &act, NULL);
}

int main(void)
{
	const unsigned int want = EXCEPTIONS * (BENCH_BATCHES + 1);
	struct bench native[CASES], dune[CASES];
	unsigned int natively[CASES];
	char name[32];

	ktap_plan(DUNE_TEST_ENTER + 3 * CASES + DUNE_TEST_LEAVE);
	bench_pin();
	for (unsigned int i = 0; i < CASES; i++) {
		handle_natively(i);
		handled = 0;
		bench_run(&native[i], cases[i].raise, NULL, EXCEPTIONS);
		natively[i] = handled;
	}
	dune_test_enter();
	for (unsigned int i = 0; i < CASES; i++) {
		struct dune_stats before, after;
		uint64_t exits;

		dune_register_intr_handler(cases[i].vector,
					   cases[i].vector == TRAP_BP ? dune_count : dune_skip);
		handled = 0;
		bench_run(&dune[i], cases[i].raise, NULL, EXCEPTIONS);
		ktap_ok(handled == want && natively[i] == want,
			"%s: each exception reached its handler", cases[i].name);

		before = dune_test_stats();
		cases[i].raise(EXCEPTIONS, NULL);
		after = dune_test_stats();
		exits = after.entries - before.entries -
			(after.exit[DUNE_STAT_INTERRUPT].count - before.exit[DUNE_STAT_INTERRUPT].count);
		ktap_eq(exits, 0, "%s: without an exit", cases[i].name);

		snprintf(name, sizeof(name), "exception_%s_native", cases[i].name);
		bench_report(name, &native[i]);
		snprintf(name, sizeof(name), "exception_%s_dune", cases[i].name);
		bench_report(name, &dune[i]);
		ktap_ok(dune[i].min < native[i].min, "%s: cheaper than a signal", cases[i].name);
	}
	return dune_test_done();
}
