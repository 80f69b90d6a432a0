/* SPDX-License-Identifier: MIT */
/*
 * The CPUs a test may use, counted from 0: those of the affinity mask it was
 * started with.  A guest may have more, for whoever started it (docs/engines.md).
 */
#ifndef TESTS_CPUS_H
#define TESTS_CPUS_H

#include <sched.h>

#include "ktap.h"

static cpu_set_t cpus_usable;

/* How many there are.  The first call must come before the first cpus_pin(). */
__attribute__((unused)) static int cpus_count(void)
{
	if (!CPU_COUNT(&cpus_usable) &&
	    sched_getaffinity(0, sizeof(cpus_usable), &cpus_usable))
		ktap_bail("sched_getaffinity: %s", strerror(errno));
	return CPU_COUNT(&cpus_usable);
}

/* The kernel's number of the @nth. */
__attribute__((unused)) static int cpus_number(int nth)
{
	if (nth >= cpus_count())
		ktap_bail("this test needs %d CPUs, it may use %d", nth + 1, cpus_count());
	for (int cpu = 0; ; cpu++)
		if (CPU_ISSET(cpu, &cpus_usable) && nth-- == 0)
			return cpu;
}

/* Keeps @pid (0: the caller) on the @nth.  Returns what sched_setaffinity(2) does. */
__attribute__((unused)) static int cpus_pin(pid_t pid, int nth)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpus_number(nth), &set);
	return sched_setaffinity(pid, sizeof(set), &set);
}

#endif /* TESTS_CPUS_H */
