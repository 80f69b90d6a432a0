// SPDX-License-Identifier: MIT
/*
 * Going on outside Dune mode, for good.
 *
 * A process that asks to be traced (PTRACE_TRACEME) means that its own
 * instructions, registers and system calls be seen.  In Dune mode the tracer would
 * see the host side's.  So a process that knows nothing of Dune becomes an ordinary
 * one here, as what it executes next would be (exec.c).
 *
 * Lean code, on the host stack.
 */
#include <linux/ptrace.h>
#include <signal.h>
#include <sys/syscall.h>

#include "sigframe.h"

#define ARCH_SET_GS	0x1001
#define ARCH_SET_FS	0x1002

/*
 * Under dune-run, and with nothing shared that others need: handlers, the VM and its
 * descriptors are the process's.
 */
static bool may_go(const struct dune_percpu *pc)
{
	return __dune_exec_fd >= 0 && !__dune_filtered && !pc->vforked && !pc->alone &&
	       !pc->shares_files && __dune_is_only_block(pc);
}

static void close_own(int *fd)
{
	if (*fd >= 0)
		__dune_own3(SYS_close, *fd, 0, 0);
	*fd = -1;
}

/*
 * All signals are blocked; the program's mask is @mask.  What stays is the block
 * around this very stack.
 */
static void __attribute__((noreturn)) go(struct dune_percpu *pc, const struct dune_state *st,
					 uint64_t mask)
{
	char area[__dune_frame_fpu_size] __attribute__((aligned(64)));
	struct dune_regs *r = &pc->child_regs;
	struct dune_sigframe f;

	__dune_copy(r, &pc->run->regs, sizeof(*r));
	r->rax = 0;
	__dune_leave_gate(pc, r);
	__dune_sigactions_give_back(pc);
	__dune_syscall3(SYS_sigaltstack, &pc->altstack, 0, 0);
	__dune_release_vm(pc);
	__dune_block_forget(pc);
	close_own(&__dune_dev_fd);
	close_own(&__dune_exec_fd);
	*__dune_fork_mark = 0;

	__dune_clear(&f, sizeof(f));
	__dune_fill_context(&f.uc, r);
	f.uc.flags = UC_SS_FLAGS;
	f.uc.stack = pc->altstack;
	f.uc.cs = USER_CS;
	f.uc.ss = USER_SS;
	f.uc.rflags |= X86_EFLAGS_IF;
	f.uc.fpstate = (uint64_t)area;
	f.uc.sigmask = mask;
	__dune_frame_fpu_save(area);
	__dune_syscall3(SYS_arch_prctl, ARCH_SET_GS, st->gs_base, 0);
	__dune_syscall3(SYS_arch_prctl, ARCH_SET_FS, st->fs_base, 0);
	__dune_host_sigreturn(&f.uc);
}

long __dune_ptrace(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	uint64_t all = ~0ULL, mask;
	struct dune_state st;
	long ret;

	if (r->rdi != PTRACE_TRACEME || !may_go(pc))
		return __dune_forward(r);
	ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, &st);
	if (ret)
		return ret;
	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask, 8);
	ret = __dune_forward(r);
	if (!ret) {
		if (pc->deferred) {
			__dune_queue_signal(((const siginfo_t *)pc->deferred_info)->si_signo,
					    pc->deferred_info);
			mask = pc->deferred_mask;
		}
		go(pc, &st, mask);
	}
	if (!pc->deferred)
		__dune_own4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
	return ret;
}
