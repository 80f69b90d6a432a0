/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Computes in guest mode for a number of seconds (argument, default 1)
 * without a system call of its own, for others to kill meanwhile; "# ready"
 * says when.  The host stays in charge: its interrupts end guest mode.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1, end;
	unsigned long rounds = 0;
	uint64_t interrupts;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	dune_test_enter();
	ktap_note("ready pid=%d", (int)getpid());
	interrupts = dune_test_stats().exit[DUNE_STAT_INTERRUPT].count;
	end = child_now() + seconds;
	do {
		for (unsigned long i = 0; i < 10000000; i++)
			asm volatile("" : : : "memory");
		rounds++;
	} while (child_now() < end);
	interrupts = dune_test_stats().exit[DUNE_STAT_INTERRUPT].count - interrupts;
	ktap_ok(interrupts > 0, "%lu rounds, %llu interrupts", rounds,
		(unsigned long long)interrupts);
	return dune_test_done();
}
