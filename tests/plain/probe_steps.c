// SPDX-License-Identifier: MIT
/* A program that steps through its own instructions (EFLAGS.TF): SYSCALL is one. */
#include "probe.h"

#include <stdint.h>
#include <ucontext.h>

#define TF	"0x100"
#define STEP_BEGIN	"pushf\n\torl $" TF ", (%%rsp)\n\tpopf\n\t"
#define STEP_END	"pushf\n\tandl $~" TF ", (%%rsp)\n\tpopf\n\t"

static volatile sig_atomic_t steps, odd;

static void step(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	(void)sig;
	if (info->si_code != TRAP_TRACE ||
	    (uint64_t)info->si_addr != (uint64_t)uc->uc_mcontext.gregs[REG_RIP])
		odd = 1;
	if (++steps > 100) {
		say("no end of steps");
		_exit(1);
	}
}

static void single_steps(void)
{
	long ret;

	handle(SIGTRAP, step, 0);
	asm volatile(STEP_BEGIN "nop\n\tnop\n\t" STEP_END : : : "cc", "memory");
	say("2 instructions: %d, odd %d", steps, odd);
	steps = 0;
	asm volatile(STEP_BEGIN "mov %1, %%eax\n\tsyscall\n\tnop\n\t" STEP_END
		     : "=&a"(ret) : "i"(SYS_getpid) : "rcx", "r11", "cc", "memory");
	say("a system call: %d, odd %d, right %d", steps, odd, ret == getpid());
	steps = 0;
	asm volatile(STEP_BEGIN "mov %1, %%eax\n\tsyscall\n\tnop\n\t" STEP_END
		     : "=&a"(ret) : "i"(SYS_rt_sigaction), "D"(0), "S"(0), "d"(0)
		     : "rcx", "r11", "cc", "memory");
	say("a special one: %d, odd %d, result %ld", steps, odd, ret);
}

static const struct probe probes[] = {
	{ "single steps", single_steps },
	{ NULL, NULL },
};

int main(void)
{
	return probe_all(probes);
}
