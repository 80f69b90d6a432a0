/* SPDX-License-Identifier: MIT */
/*
 * What int $0x80 does: a system call, or a fault where the kernel has none for
 * 32-bit programs.  Prints it; natively and in Dune mode it is the same.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include <unistd.h>

extern const char instruction[];

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const greg_t *r = ((const ucontext_t *)context)->uc_mcontext.gregs;

	printf("signal %d code %d address %p, %ld bytes behind the instruction, rax %lld, vector %lld error 0x%llx\n",
	       sig, info->si_code, info->si_addr, (long)(r[REG_RIP] - (long)instruction),
	       r[REG_RAX], r[REG_TRAPNO], r[REG_ERR]);
	exit(3);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned short cs;
	long ret;

	(void)argv;
	if (argc == 1)
		sigaction(SIGSEGV, &sa, NULL);
	asm volatile("mov %%cs, %0" : "=r"(cs));
	fprintf(stderr, "cpl=%d\n", cs & 3);
	asm volatile("instruction: int $0x80" : "=a"(ret) : "a"(20L) : "memory");
	printf("the call works: %d\n", ret == getpid());
	return 0;
}
