/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * A process enters Dune mode and is the same process afterwards: stack,
 * registers that calls preserve, thread-local storage, environment.  The
 * privileges are real, and the host's are not for the taking: interrupts stay
 * the host's even with IF clear.
 */
#include "../dune_test.h"

#define IF_FLAG		(1UL << 9)
#define SPIN_LIMIT	20000000000UL	/* ticks */

static __thread unsigned long tls_word = 0x1234567890abcdefUL;

static unsigned long read_flags(void)
{
	unsigned long flags;

	asm volatile("pushfq; popq %0" : "=r"(flags) : : "memory");
	return flags;
}

/* Runs with IF clear until the host's own interrupt comes; the exits it took. */
static unsigned long interrupts_while_cli(void)
{
	unsigned long start = dune_get_ticks();
	uint64_t before = dune_test_stats().exit[DUNE_STAT_INTERRUPT].count;
	uint64_t now = before;

	asm volatile("cli" : : : "memory");
	while (now == before && dune_get_ticks() - start < SPIN_LIMIT)
		now = dune_test_stats().exit[DUNE_STAT_INTERRUPT].count;
	asm volatile("sti" : : : "memory");
	return now - before;
}

static bool cr2_is_ours(void)
{
	unsigned long value;

	asm volatile("mov %1, %%cr2; mov %%cr2, %0" : "=r"(value) : "r"(0x5a5a000UL));
	return value == 0x5a5a000UL;
}

int main(int argc, char **argv)
{
	volatile unsigned long canary[64];
	char *path = getenv("PATH");
	pid_t pid = getpid();
	bool outside;

	ktap_plan(DUNE_TEST_ENTER + 9 + DUNE_TEST_LEAVE);
	for (unsigned int i = 0; i < 64; i++)
		canary[i] = i * 0x9e3779b97f4a7c15UL;
	outside = !dune_in_guest() && dune_vcpu_stats() == NULL;

	dune_test_enter();

	ktap_ok(outside, "before entry the library says that it is outside");
	ktap_ok(dune_in_guest() && dune_vcpu_stats() != NULL, "after entry that it is inside");

	bool kept = true;

	for (unsigned int i = 0; i < 64; i++)
		kept &= canary[i] == i * 0x9e3779b97f4a7c15UL;
	ktap_ok(kept, "the stack is the same");
	ktap_ok(tls_word == 0x1234567890abcdefUL, "thread-local storage is the same");
	ktap_ok(argc >= 1 && argv[0] && getenv("PATH") == path,
		"arguments and environment are the same");
	ktap_eq(getpid(), pid, "the process is the same");
	ktap_ok(dune_test_cr3() != 0, "there are page tables of its own");
	ktap_ok(cr2_is_ours(), "CR2 can be written and read back");

	unsigned long ints = interrupts_while_cli();

	ktap_ok(ints > 0 && (read_flags() & IF_FLAG), "CLI does not keep the host's interrupts away");
	return dune_test_done();
}
