// SPDX-License-Identifier: MIT
/*
 * Ending the process by a signal.
 *
 * Lean code, on the host side.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "local.h"

/*
 * As Linux does with a fault that cannot be delivered: the default action,
 * whatever the process asked for, with @code and @addr for the core file.
 */
void __dune_raise(int sig, int code, uint64_t addr)
{
	struct dune_sigaction sa;
	uint64_t mask = 1ULL << (sig - 1);
	siginfo_t info;
	long pid = __dune_own3(SYS_getpid, 0, 0, 0);
	long tid = __dune_own3(SYS_gettid, 0, 0, 0);

	__dune_clear(&sa, sizeof(sa));
	__dune_own4(SYS_rt_sigaction, sig, &sa, NULL, 8);
	__dune_clear(&info, sizeof(info));
	info.si_signo = sig;
	info.si_code = code;
	info.si_addr = (void *)addr;
	__dune_own4(SYS_rt_tgsigqueueinfo, pid, tid, sig, &info);
	__dune_own4(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, NULL, 8);

	/* Still here: the init process of a PID namespace has no default action. */
	for (;;)
		__dune_syscall3(SYS_exit_group, 128 + sig, 0, 0);
}
