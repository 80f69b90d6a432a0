// SPDX-License-Identifier: MIT
/*
 * Signals that end the process with a core file, by default.
 *
 * Linux would carry them out where it finds the thread: on the host side, so that the
 * core file would show libdune's stub.  So these signals have libdune's handler too
 * while their action is the default one.  It gives the action back to Linux, sends
 * the signal again, and returns from the handler to where the program stands: there
 * the signal ends the process before an instruction is executed, and the core file
 * shows the program.
 *
 * Lean code, on the host stack.
 */
#include <sys/syscall.h>

#include "sigframe.h"

#define CORE_SIGNALS \
	(SIG_BIT(SIGQUIT) | SIG_BIT(SIGILL) | SIG_BIT(SIGTRAP) | SIG_BIT(SIGABRT) | \
	 SIG_BIT(SIGBUS) | SIG_BIT(SIGFPE) | SIG_BIT(SIGSEGV) | SIG_BIT(SIGXCPU) | \
	 SIG_BIT(SIGXFSZ) | SIG_BIT(SIGSYS))

bool __dune_dumps_core(int sig)
{
	return CORE_SIGNALS & SIG_BIT(sig);
}

/*
 * For the init process of a PID namespace such an action means nothing, unless the
 * signal is the kernel's own.
 */
static bool is_init(void)
{
	return __dune_own3(SYS_getpid, 0, 0, 0) == 1;
}

/*
 * Let Linux end the process by @sig as soon as the caller unblocks it.  No thread may
 * change the action any more; a process of its own must not hinder its parent.
 */
static void give_back(const struct dune_percpu *pc, int sig, const siginfo_t *info)
{
	static const struct dune_sigaction dfl;
	uint64_t bit = SIG_BIT(sig);

	if (!pc)
		__dune_sigtable_freeze(&__dune_sigs);
	else if (!pc->alone)
		__dune_sigtable_freeze(pc->sigs);
	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, &bit, 0, 8);
	__dune_own4(SYS_rt_sigaction, sig, &dfl, 0, 8);
	if (__dune_queue_signal(sig, info))	/* see __dune_force_signal() */
		__dune_raise(sig, info->si_code, (uint64_t)info->si_addr);
}

/*
 * The default action of @sig, which dumps core, at the guest's registers in the run
 * page.  *@uc holds the program's vector registers.  Returns if nothing happens.
 */
void __dune_default_action(struct dune_percpu *pc, int sig, const siginfo_t *info,
			   struct dune_ucontext *uc)
{
	if (is_init()) {
		if (info->si_code > 0)
			__dune_raise(sig, info->si_code, (uint64_t)info->si_addr);
		return;
	}
	give_back(pc, sig, info);
	__dune_show_regs(pc, uc);
	uc->sigmask = ~SIG_BIT(sig);
	__dune_host_sigreturn(uc);
}

/* The same in a thread outside Dune mode, which Linux has interrupted itself. */
void __dune_default_outside(int sig, const siginfo_t *info, struct dune_ucontext *uc)
{
	if (is_init()) {
		if (info->si_code > 0)
			__dune_raise(sig, info->si_code, (uint64_t)info->si_addr);
		return;
	}
	give_back(NULL, sig, info);
	uc->sigmask = ~SIG_BIT(sig);
}
