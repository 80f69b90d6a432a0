// SPDX-License-Identifier: MIT
/*
 * System calls that are no plain forwards, in one table.
 *
 * Most calls act on the process or on its files, and whoever makes them gets
 * the same.  These act on the caller's own registers, stack, signals or life,
 * and the caller is a guest while the stub that makes the call is not; or they
 * could take libdune's own descriptors away.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <linux/close_range.h>
#include <linux/prctl.h>
#include <signal.h>
#include <sys/syscall.h>

#include "local.h"

enum call_class {
	PLAIN,		/* the assembly loop makes the call by itself */
	CHILD,		/* makes a thread or a process: child.c */
	EXIT,		/* ends this thread or process, and its vCPU with it */
	FS_GS,		/* reads or sets a segment base: the guest has its own */
	SIGACTION,	/* signals: sigaction.c, sigframe.c */
	SIGALTSTACK,
	SIGRETURN,
	EXEC,		/* may start the loader instead: exec.c */
	SECCOMP,	/* may install a filter: seccomp.c; or a dispatcher: dispatch.c */
	DESCRIPTOR,	/* may name a descriptor of libdune's */
	PTRACE,		/* may end Dune mode: native.c */
	PKEY_ALLOC,	/* the guest's page tables have no protection keys */
	REFUSED,	/* see below */
};

/*
 * Refused: modify_ldt, iopl and ioperm would change the host's LDT or I/O
 * rights, not the guest's.  rseq: a critical section that is preempted in guest
 * mode would not be aborted, so no thread in Dune mode has one.
 */
const uint8_t __dune_call_class[DUNE_NR_CALLS] = {
	[SYS_fork]		= CHILD,
	[SYS_vfork]		= CHILD,
	[SYS_clone]		= CHILD,
	[SYS_clone3]		= CHILD,
	[SYS_exit]		= EXIT,
	[SYS_exit_group]	= EXIT,
	[SYS_execve]		= EXEC,
	[SYS_execveat]		= EXEC,
	[SYS_arch_prctl]	= FS_GS,
	[SYS_rt_sigaction]	= SIGACTION,
	[SYS_sigaltstack]	= SIGALTSTACK,
	[SYS_rt_sigreturn]	= SIGRETURN,
	[SYS_prctl]		= SECCOMP,
	[SYS_seccomp]		= SECCOMP,
	[SYS_close]		= DESCRIPTOR,
	[SYS_close_range]	= DESCRIPTOR,
	[SYS_dup2]		= DESCRIPTOR,
	[SYS_dup3]		= DESCRIPTOR,
	[SYS_ptrace]		= PTRACE,
	[SYS_pkey_alloc]	= PKEY_ALLOC,
	[SYS_modify_ldt]	= REFUSED,
	[SYS_iopl]		= REFUSED,
	[SYS_ioperm]		= REFUSED,
	[SYS_rseq]		= REFUSED,
};

long __dune_forward(const struct dune_regs *r)
{
	return __dune_syscall6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx,
			       (long)r->r10, (long)r->r8, (long)r->r9);
}

/* ---- calls that the module makes -------------------------------------- */

static volatile bool fast_calls = true;

DUNE_EXPORT void dune_set_fast_calls(bool on)
{
	fast_calls = on;
}

/* All plain calls may be made by the module itself: it takes those it can. */
int __dune_fast_calls_allow(struct dune_percpu *pc)
{
	struct dune_fast_calls calls;

	if (!fast_calls || !(__dune_info.features & DUNE_FEAT_FAST_CALLS))
		return 0;
	__dune_clear(&calls, sizeof(calls));
	calls.gate = pc->gate_ret - DUNE_HYPERCALL_LEN;
	for (unsigned int i = 0; i < DUNE_NR_CALLS && i < DUNE_NR_FAST_CALLS; i++)
		if (__dune_call_class[i] == PLAIN)
			calls.bitmap[i / 64] |= 1ULL << i % 64;
	return (int)__dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_FAST_CALLS, &calls);
}

int __dune_fast_calls_forbid(struct dune_percpu *pc)
{
	struct dune_fast_calls calls;

	if (!(__dune_info.features & DUNE_FEAT_FAST_CALLS))
		return 0;
	__dune_clear(&calls, sizeof(calls));
	return (int)__dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_FAST_CALLS, &calls);
}

/* ---- the caller's own life and registers ----------------------------- */

/*
 * A process that shares its memory with its parent leaves its block behind, as
 * a thread does, unless the parent is waiting to free it.  One that shares the
 * parent's descriptors takes its own out of the table.
 */
static long leave(struct dune_percpu *pc, const struct dune_regs *r)
{
	long nr = (long)r->rax, status = (long)r->rdi;
	uint64_t all = ~0ULL;

	if (pc->vforked)
		return __dune_forward(r);
	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 8);
	if (!pc->alone && (nr == SYS_exit_group || pc->shares_files))
		__dune_release_vm(pc);
	if (!pc->alone && nr == SYS_exit_group)
		return __dune_syscall3(nr, status, 0, 0);
	__dune_block_forget(pc);
	__dune_unmap_and_exit(pc, DUNE_BLOCK_SIZE, status, nr);
}

#define PKEY_ACCESS_MASK	3	/* PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE */

#define ARCH_SET_GS		0x1001
#define ARCH_SET_FS		0x1002
#define ARCH_GET_FS		0x1003
#define ARCH_GET_GS		0x1004
#define ARCH_SET_CPUID		0x1012
#define ARCH_SHSTK_ENABLE	0x5001

/*
 * Both sides get a new base: the guest, which asked, and the host side, where
 * debuggers look for the thread's TLS.  Linux checks the arguments.
 */
static long arch_prctl(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	struct dune_state st;
	long ret;

	if (r->rdi == ARCH_SHSTK_ENABLE)	/* the guest has no shadow stack */
		return -EOPNOTSUPP;
	if (r->rdi == ARCH_SET_CPUID && !r->rsi)	/* it is the module that answers CPUID */
		return -ENODEV;
	ret = __dune_forward(r);
	if (ret || r->rdi < ARCH_SET_GS || r->rdi > ARCH_GET_GS)
		return ret;

	ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, &st);
	if (ret)
		return ret;
	switch (r->rdi) {
	case ARCH_GET_FS:
		return __dune_copy_user((void *)r->rsi, &st.fs_base, 8) ? -EFAULT : 0;
	case ARCH_GET_GS:
		return __dune_copy_user((void *)r->rsi, &st.gs_base, 8) ? -EFAULT : 0;
	case ARCH_SET_FS:
		st.fs_base = r->rsi;
		break;
	case ARCH_SET_GS:
		st.gs_base = r->rsi;
		break;
	}
	return __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_STATE, &st);
}

/* ---- descriptors ------------------------------------------------------ */

/* Closing all that is not ours: a range in pieces. */
static long close_others(const struct dune_regs *r)
{
	unsigned int first = (unsigned int)r->rdi, last = (unsigned int)r->rsi;
	long ret;

	if (first > last || r->rdx & ~(uint64_t)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC))
		return __dune_forward(r);
	for (;;) {
		int own = __dune_next_own_fd(first, last);

		if (own < 0)
			break;
		if ((unsigned int)own > first) {
			ret = __dune_syscall3(SYS_close_range, first, own - 1, r->rdx);
			if (ret)
				return ret;
		}
		if ((unsigned int)own == last)
			return 0;
		first = (unsigned int)own + 1;
	}
	return __dune_syscall3(SYS_close_range, first, last, r->rdx);
}

/* Programs do not know of these descriptors: they are not open, or are not to be had. */
static long descriptor(const struct dune_regs *r)
{
	switch (r->rax) {
	case SYS_close:
		return __dune_is_own_fd((int)r->rdi) ? -EBADF : __dune_forward(r);
	case SYS_close_range:
		return close_others(r);
	default:
		return __dune_is_own_fd((int)r->rsi) || __dune_is_own_fd((int)r->rdi) ?
		       -EBADF : __dune_forward(r);
	}
}

/*
 * A call that the table marks.  It may not return, and -DUNE_ERESTART means that it
 * has not begun: a signal comes first.
 */
long __dune_special_call(struct dune_percpu *pc, const struct dune_regs *r)
{
	switch (__dune_call_class[r->rax]) {
	case CHILD:
		return __dune_call_child(pc, r);
	case EXIT:
		return leave(pc, r);
	case FS_GS:
		return arch_prctl(pc);
	case SIGACTION:
		return __dune_sigaction(pc);
	case SIGALTSTACK:
		return __dune_sigaltstack(pc);
	case EXEC:
		return __dune_exec(pc);
	case PKEY_ALLOC:	/* as on a CPU that has none: a key would protect nothing */
		return r->rdi || r->rsi & ~(uint64_t)PKEY_ACCESS_MASK ? -EINVAL : -ENOSPC;
	case PTRACE:
		return __dune_ptrace(pc);
	case SECCOMP:
		if (r->rax == SYS_prctl && (int)r->rdi == PR_SET_SYSCALL_USER_DISPATCH)
			return __dune_set_dispatch(pc);
		return __dune_seccomp(pc, r);
	case DESCRIPTOR:
		return descriptor(r);
	}
	return -ENOSYS;
}

/* The assembly loop saw a call that the table marks. */
void __dune_host_call(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;
	long ret;

	if (__dune_call_class[r->rax] == SIGRETURN) {
		__dune_sigreturn(pc);
		return;
	}
	ret = __dune_special_call(pc, r);
	if (ret == -DUNE_ERESTART)
		__dune_take_back_call(pc);	/* and the signal is delivered first */
	else
		r->rax = (uint64_t)ret;
}
