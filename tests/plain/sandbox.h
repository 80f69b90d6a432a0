/* SPDX-License-Identifier: MIT */
/*
 * For programs that try to get out of dune-sandbox --allow-all: where the monitor is, and
 * what an attempt is.  Each must fail, and the program must go on.  Natively, where there
 * is no monitor, the first test fails.
 */
#ifndef TESTS_PLAIN_SANDBOX_H
#define TESTS_PLAIN_SANDBOX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../ktap.h"

#define SLOT		0x3f8000000000UL
#define SLOT_END	0x400000000000UL

static __attribute__((unused)) uint64_t code, data, stack;	/* of the monitor, by /proc/self/maps */
static sigjmp_buf back;
static volatile int caught;

__attribute__((used)) static void on_fault(int sig)
{
	caught = sig;
	siglongjmp(back, 1);
}

/* The signal that @what ends in; 0: it went through. */
#define TRY(what) ({							\
	caught = 0;							\
	if (!sigsetjmp(back, 1)) { what; }				\
	caught; })

#define REFUSED(what, text) do {					\
	errno = 0;							\
	long ret_ = (long)(what);					\
	ktap_ok(ret_ == -1, "%s (%s)", text, strerror(errno));		\
} while (0)

static void find_monitor(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], prot[8];
	uint64_t from, to;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &from, &to, prot) != 3 || from < SLOT ||
		    from >= SLOT_END)
			continue;
		if (prot[2] == 'x' && !code)
			code = from;
		if (prot[1] == 'w' && !data)
			data = from;
		if (prot[1] == 'w')
			stack = to - 4096;
	}
	if (maps)
		fclose(maps);
}

#define INSN(name, text) \
	extern char name[]; \
	__asm__(".text\n" #name ":\n" text "\n	ret\n")

/* False: there is no monitor, and that has been told. */
static bool begin(unsigned int plan)
{
	static char alternate[65536];
	stack_t ss = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	struct sigaction sa = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK };

	ktap_plan(plan);
	find_monitor();
	ktap_ok(code && data && stack, "there is a monitor");
	sigaltstack(&ss, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	return code && data && stack;
}

#endif
