/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=60 */
/*
 * Exceptions of a program whose stack pointer leads nowhere: each is the signal that it
 * natively is, and finds the alternate stack.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#define STACK	65536

static sigjmp_buf back;
static volatile struct {
	int sig, code;
	unsigned long rsp;
} got;

static void on_signal(int sig, siginfo_t *info, void *ctx)
{
	const ucontext_t *uc = ctx;

	got.sig = sig;
	got.code = info->si_code;
	got.rsp = (unsigned long)uc->uc_mcontext.gregs[REG_RSP];
	siglongjmp(back, 1);
}

/* An instruction with @rsp for a stack pointer. */
#define WITH_RSP(rsp, insn)							\
	do {									\
		if (!sigsetjmp(back, 1))					\
			asm volatile("mov %0, %%rsp\n\t" insn			\
				     : : "r"(rsp), "a"(1), "c"(0), "d"(0) : "memory");	\
	} while (0)

static void check(const char *what, unsigned long rsp, int sig, int code)
{
	ktap_ok(got.sig == sig && got.code == code && got.rsp == rsp,
		"%s with rsp 0x%lx (signal %d, code %d, rsp 0x%lx)", what, rsp, got.sig, got.code,
		got.rsp);
	got.sig = 0;
}

static void all_with(unsigned long rsp)
{
	WITH_RSP(rsp, "ud2");
	check("#UD", rsp, SIGILL, ILL_ILLOPN);
	WITH_RSP(rsp, "int3");
	check("#BP", rsp, SIGTRAP, SI_KERNEL);
	WITH_RSP(rsp, "idivl %%ecx");
	check("#DE", rsp, SIGFPE, FPE_INTDIV);
	WITH_RSP(rsp, "movb $0, 8");
	check("#PF", rsp, SIGSEGV, SEGV_MAPERR);
	WITH_RSP(rsp, "syscall\n\tud2");	/* write(0, NULL, 0) */
	check("#UD behind a call", rsp, SIGILL, ILL_ILLOPN);
}

int main(void)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	static const int signals[] = { SIGILL, SIGTRAP, SIGFPE, SIGSEGV, SIGBUS };
	stack_t alternate = { .ss_size = STACK };
	unsigned char *guard = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ktap_plan(DUNE_TEST_ENTER + 15 + DUNE_TEST_LEAVE);
	dune_test_enter();
	alternate.ss_sp = malloc(STACK);
	if (guard == MAP_FAILED || sigaltstack(&alternate, NULL))
		ktap_bail("mmap or sigaltstack: %s", strerror(errno));
	for (unsigned int i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &act, NULL);
	all_with(0xffffffff);			/* nothing there, in a GiB without memory */
	all_with((unsigned long)guard + 4096);	/* a mapping that allows nothing */
	all_with(16);
	return dune_test_done();
}
