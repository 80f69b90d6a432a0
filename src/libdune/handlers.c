// SPDX-License-Identifier: MIT
/*
 * Signal handlers under the names that programs written for Dune use.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include "local.h"

static dune_intr_cb handlers[_NSIG];

static int install(int sig, struct sigaction *act)
{
	sigemptyset(&act->sa_mask);
	act->sa_flags |= SA_RESTART;
	return sigaction(sig, act, NULL);
}

DUNE_EXPORT sighandler_t dune_signal(int sig, sighandler_t cb)
{
	struct sigaction act = { .sa_handler = cb };

	return install(sig, &act) ? SIG_ERR : NULL;
}

/* The general registers of both, in pairs. */
static const struct { size_t tf; int greg; } regs[] = {
	{ TF_RDI, REG_RDI }, { TF_RSI, REG_RSI }, { TF_RDX, REG_RDX }, { TF_RCX, REG_RCX },
	{ TF_R8, REG_R8 }, { TF_R9, REG_R9 }, { TF_R10, REG_R10 }, { TF_R11, REG_R11 },
	{ TF_RBX, REG_RBX }, { TF_RBP, REG_RBP }, { TF_R12, REG_R12 }, { TF_R13, REG_R13 },
	{ TF_R14, REG_R14 }, { TF_R15, REG_R15 }, { TF_RAX, REG_RAX }, { TF_RIP, REG_RIP },
	{ TF_RFLAGS, REG_EFL }, { TF_RSP, REG_RSP },
};

static void on_signal(int sig, siginfo_t *info, void *context)
{
	greg_t *gregs = ((ucontext_t *)context)->uc_mcontext.gregs;
	dune_intr_cb cb = __atomic_load_n(&handlers[sig], __ATOMIC_ACQUIRE);
	bool guest = dune_in_guest();
	struct dune_tf tf = {
		.err = (uint32_t)gregs[REG_ERR],
		.cs = guest ? GD_KT : GD_UT | 3,
		.ss = guest ? GD_KD : GD_UD | 3,
	};
	int saved = errno;

	(void)info;
	if (!cb)
		return;
	for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		*(uint64_t *)((char *)&tf + regs[i].tf) = (uint64_t)gregs[regs[i].greg];
	cb(&tf);
	for (size_t i = 0; i < sizeof(regs) / sizeof(regs[0]); i++)
		gregs[regs[i].greg] = *(greg_t *)((char *)&tf + regs[i].tf);
	errno = saved;
}

DUNE_EXPORT int dune_register_signal_handler(int signum, dune_intr_cb cb)
{
	struct sigaction act = { .sa_handler = SIG_DFL };

	if (signum < 1 || signum >= _NSIG)
		return -EINVAL;
	if (cb) {
		__atomic_store_n(&handlers[signum], cb, __ATOMIC_RELEASE);
		act.sa_sigaction = on_signal;
		act.sa_flags = SA_SIGINFO;
	}
	return install(signum, &act) ? -errno : 0;
}

DUNE_EXPORT void *dune_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)__dune_syscall6(SYS_mmap, (long)addr, (long)length, prot, flags, fd,
				       offset);
}
