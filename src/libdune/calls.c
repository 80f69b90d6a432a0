// SPDX-License-Identifier: MIT
/*
 * System calls that are no plain forwards, in one table.
 *
 * Most calls act on the process or on its files, and whoever makes them gets
 * the same.  These act on the caller's own registers, stack or life, and the
 * caller is a guest while the stub that makes the call is not.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "local.h"

enum call_class {
	PLAIN,		/* the assembly loop makes the call by itself */
	CHILD,		/* makes a thread or a process: see call_child() */
	THREAD_EXIT,	/* ends this thread, and its vCPU with it */
	FS_GS,		/* reads or sets a segment base: the guest has its own */
	SIGRETURN,	/* no signal frame is ever on a guest's stack */
	REFUSED,	/* would change the host's LDT or I/O rights, not the guest's */
};

const uint8_t __dune_call_class[DUNE_NR_CALLS] = {
	[SYS_fork]		= CHILD,
	[SYS_vfork]		= CHILD,
	[SYS_clone]		= CHILD,
	[SYS_clone3]		= CHILD,
	[SYS_exit]		= THREAD_EXIT,
	[SYS_arch_prctl]	= FS_GS,
	[SYS_rt_sigreturn]	= SIGRETURN,
	[SYS_modify_ldt]	= REFUSED,
	[SYS_iopl]		= REFUSED,
	[SYS_ioperm]		= REFUSED,
};

static long forward(const struct dune_regs *r)
{
	return __dune_syscall6((long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx,
			       (long)r->r10, (long)r->r8, (long)r->r9);
}

/* ---- children ------------------------------------------------------- */

/* The head of struct clone_args is its flags.  A bad pointer: clone3 says so. */
static uint64_t clone3_flags(uint64_t args)
{
	uint64_t flags = 0;
	struct iovec local = { &flags, sizeof(flags) };
	struct iovec remote = { (void *)args, sizeof(flags) };
	long pid = __dune_syscall3(SYS_getpid, 0, 0, 0);
	long ret = __dune_syscall6(SYS_process_vm_readv, pid, (long)&local, 1,
				   (long)&remote, 1, 0);

	if (ret == -ENOSYS || ret == -EPERM)	/* not built in, or filtered */
		flags = *(const volatile uint64_t *)args;
	return flags;
}

static uint64_t clone_flags(const struct dune_regs *r)
{
	switch (r->rax) {
	case SYS_clone:
		return r->rdi;
	case SYS_clone3:
		return clone3_flags(r->rdi);
	case SYS_vfork:
		return CLONE_VM | CLONE_VFORK;
	default:
		return 0;
	}
}

/*
 * A free place for a child's registers.  A place is busy until its child has
 * run a few instructions, so that waiting is a matter of being scheduled.
 */
static struct dune_child *get_child(struct dune_percpu *pc)
{
	for (;;) {
		for (int i = 0; i < DUNE_NR_CHILDREN; i++) {
			struct dune_child *c = &pc->child[i];

			if (!__atomic_load_n(&c->busy, __ATOMIC_ACQUIRE)) {
				c->busy = 1;
				return c;
			}
		}
		__dune_syscall3(SYS_sched_yield, 0, 0, 0);
	}
}

/*
 * fork, vfork, clone, clone3.  The child starts outside Dune mode: at the
 * instruction after its call, rax 0, on the stack it was given or at the same
 * rsp as its parent.  A child that runs on in memory shared with its parent
 * frees its place itself; in the other cases it cannot or need not.
 */
static long call_child(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	uint64_t flags = clone_flags(r);
	struct dune_child *child = get_child(pc);
	long ret;

	__dune_copy(&child->regs, r, sizeof(child->regs));
	ret = __dune_clone(child);
	if (ret < 0 || !(flags & CLONE_VM) || flags & CLONE_VFORK)
		__atomic_store_n(&child->busy, 0, __ATOMIC_RELEASE);
	return ret;
}

/*
 * In the child that got a copy of the memory, on its copy of the host stack.
 * The vCPU's two pages were not copied; keep their places free for the next
 * dune_enter().
 */
void __dune_child_copied(struct dune_child *child)
{
	struct dune_percpu *pc =
		(struct dune_percpu *)((uint64_t)child & ~(uint64_t)(DUNE_PERCPU_SIZE - 1));

	__dune_forget_parent();
	__dune_syscall6(SYS_mmap, (long)pc->run, DUNE_GUARD_OFFSET - DUNE_RUN_OFFSET,
			PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	pc->vcpu_fd = -1;
	pc->active = 0;
}

/* ---- the caller's own life and registers ----------------------------- */

static void thread_exit(struct dune_percpu *pc)
{
	uint64_t status = pc->run->regs.rdi, all = ~0ULL;

	__dune_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, 8);
	__dune_untrack_fd(pc->vcpu_fd);
	__dune_syscall3(SYS_close, pc->vcpu_fd, 0, 0);
	__dune_unmap_and_exit(pc, DUNE_BLOCK_SIZE, (long)status);
}

#define ARCH_SET_GS		0x1001
#define ARCH_SET_FS		0x1002
#define ARCH_GET_FS		0x1003
#define ARCH_GET_GS		0x1004
#define ARCH_SHSTK_ENABLE	0x5001

/*
 * Both sides get a new base: the guest, which asked, and the host side, where
 * signal handlers run with the thread's TLS.  Linux checks the arguments.
 */
static long arch_prctl(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	struct dune_state st;
	long ret;

	if (r->rdi == ARCH_SHSTK_ENABLE)	/* the guest has no shadow stack */
		return -EOPNOTSUPP;
	ret = forward(r);
	if (ret || r->rdi < ARCH_SET_GS || r->rdi > ARCH_GET_GS)
		return ret;

	ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, &st);
	if (ret)
		return ret;
	switch (r->rdi) {
	case ARCH_GET_FS:
		*(volatile uint64_t *)r->rsi = st.fs_base;
		return 0;
	case ARCH_GET_GS:
		*(volatile uint64_t *)r->rsi = st.gs_base;
		return 0;
	case ARCH_SET_FS:
		st.fs_base = r->rsi;
		break;
	case ARCH_SET_GS:
		st.gs_base = r->rsi;
		break;
	}
	return __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_STATE, &st);
}

/* The assembly loop saw a call that the table marks. */
void __dune_host_call(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;

	switch (__dune_call_class[r->rax]) {
	case CHILD:
		r->rax = (uint64_t)call_child(pc);
		break;
	case THREAD_EXIT:
		thread_exit(pc);
		break;
	case FS_GS:
		r->rax = (uint64_t)arch_prctl(pc);
		break;
	case SIGRETURN:
		__dune_message("rt_sigreturn in Dune mode, where no signal frame is (rip 0x%lx)\n",
			       (unsigned long)r->rip);
		__dune_raise(SIGSEGV, SI_KERNEL, 0);
	case REFUSED:
		r->rax = (uint64_t)-ENOSYS;
		break;
	}
}
