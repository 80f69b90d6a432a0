// SPDX-License-Identifier: MIT
/*
 * Threads and processes made in Dune mode: fork, vfork, clone, clone3.  They
 * start in Dune mode, at the instruction after the call with rax 0, each with
 * a block and a vCPU of its own.
 *
 *   memory shared	the parent makes block and vCPU before the call, so that
 *			running out of something is the call's own error; the
 *			child starts on its host stack
 *   memory copied	the child goes on on its copy of the parent's block, with
 *			a new VM that has the parent's guest-physical layout
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "local.h"

/* The kernel's struct clone_args, CLONE_ARGS_SIZE_VER2. */
struct clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
		 set_tid, set_tid_size, cgroup;
};

#define CLONE_ARGS_MIN	64
#define CLONE_ARGS_MAX	4096

/* One call in the words of clone3, whatever it came as. */
struct request {
	struct dune_regs regs;		/* what the kernel gets */
	struct clone_args args;
	uint64_t flags;
	uint64_t stack;			/* the child's stack pointer, 0: the parent's */
	uint64_t tls;
};

/* Words behind those that are known here must be zero, as in copy_struct_from_user(). */
static long check_newer(uint64_t args, uint64_t size)
{
	uint64_t at, word;

	for (at = sizeof(struct clone_args); at < size; at += 8) {
		uint64_t past = size - at < 8 ? 8 - (size - at) : 0;

		if (__dune_copy_in(&word, args + at - past, 8))
			return -EFAULT;
		if (word >> 8 * past)
			return -E2BIG;
	}
	return 0;
}

static long read_clone3(struct request *q)
{
	uint64_t size = q->regs.rsi;
	long ret;

	if (q->regs.rcx == (uint64_t)__dune_passed_through)
		return -ENOSYS;		/* the child's stack lacks where that returns to */
	if (size < CLONE_ARGS_MIN || size > CLONE_ARGS_MAX)
		return __dune_forward(&q->regs);	/* refused */
	__dune_clear(&q->args, sizeof(q->args));
	ret = check_newer(q->regs.rdi, size);
	if (ret)
		return ret;
	q->regs.rsi = size < sizeof(q->args) ? size : sizeof(q->args);
	if (__dune_copy_in(&q->args, q->regs.rdi, q->regs.rsi))
		return -EFAULT;
	if (!q->args.stack != !q->args.stack_size || q->args.stack >= USER_END ||
	    q->args.stack_size > USER_END - q->args.stack)
		return __dune_forward(&q->regs);	/* refused: with a stack of ours it is not */
	q->flags = q->args.flags;
	q->stack = q->args.stack ? q->args.stack + q->args.stack_size : 0;
	q->tls = q->args.tls;
	q->regs.rdi = (uint64_t)&q->args;
	return 0;
}

static long read_request(struct request *q, const struct dune_regs *r)
{
	__dune_copy(&q->regs, r, sizeof(q->regs));
	q->stack = 0;
	q->tls = 0;
	switch (r->rax) {
	case SYS_clone3:
		return read_clone3(q);
	case SYS_clone:
		q->flags = r->rdi;
		q->stack = r->rsi;
		q->tls = r->r8;
		return 0;
	case SYS_vfork:		/* with a stack, it is a clone */
		q->regs.rax = SYS_clone;
		q->flags = q->regs.rdi = CLONE_VM | CLONE_VFORK | SIGCHLD;
		q->regs.rsi = q->regs.rdx = q->regs.r10 = q->regs.r8 = 0;
		return 0;
	default:
		q->flags = 0;
		return 0;
	}
}

/*
 * The kernel's idea of the child's stack: a host stack.  Without shared memory
 * it is the copy of this one, so none is named.
 */
static void set_stack(struct request *q, const struct dune_percpu *child)
{
	uint64_t top = child ? child->host_rsp : 0;

	if (q->regs.rax == SYS_clone) {
		q->regs.rsi = top;
	} else if (q->regs.rax == SYS_clone3) {
		q->args.stack = top ? top - DUNE_HOST_STACK_SIZE : 0;
		q->args.stack_size = top ? DUNE_HOST_STACK_SIZE : 0;
	}
}

/* What both kinds of children start from. */
static long prepare_state(struct dune_percpu *pc, const struct request *q,
			  struct dune_percpu *child)
{
	struct dune_state *st = &child->child_state;
	long ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, st);

	if (ret)
		return ret;
	if (q->flags & CLONE_SETTLS)
		st->fs_base = q->tls;
	__dune_copy(&child->child_regs, &pc->run->regs, sizeof(child->child_regs));
	child->child_regs.rax = 0;
	if (q->stack)
		child->child_regs.rsp = q->stack;
	return 0;
}

/* The segments of @child in place of its parent's, where the parent had libdune's. */
static void own_segments(const struct dune_percpu *pc, struct dune_percpu *child)
{
	struct dune_state *st = &child->child_state;

	__dune_segments_init(child);
	if (st->gdt_base == (uint64_t)pc->gdt)
		st->gdt_base = (uint64_t)child->gdt;
	if (st->tr_base == (uint64_t)&pc->tss)
		st->tr_base = (uint64_t)&child->tss;
	if (st->gs_base == (uint64_t)pc)
		st->gs_base = (uint64_t)child;
}

static long prepare_shared(struct dune_percpu *pc, const struct request *q,
			   struct dune_percpu **made)
{
	struct dune_percpu *child = pc->next_child;
	int err;

	if (!child)
		child = __dune_block_create(&err);
	if (!child)
		return err == -EMFILE || err == -ENFILE ? -EAGAIN : err;
	pc->next_child = child;

	err = (int)prepare_state(pc, q, child);
	if (err)
		return err;
	own_segments(pc, child);
	child->gate_ret = child->gate_plain = pc->gate_ret;
	if (child->sigs && child->sigs != pc->sigs)	/* of an attempt that a signal ended */
		__dune_sigtable_free(child->sigs);
	child->sigs = pc->sigs;
	if (!(q->flags & CLONE_SIGHAND)) {
		child->sigs = __dune_sigtable_copy(pc->sigs);
		if (!child->sigs)
			return -ENOMEM;
	}
	child->altstack.flags = SS_DISABLE;
	if (q->flags & CLONE_VFORK)
		child->altstack = pc->altstack;
	child->vforked = !!(q->flags & CLONE_VFORK);
	child->alone = !(q->flags & CLONE_THREAD);
	__dune_copy(&child->run->regs, &child->child_regs, sizeof(child->child_regs));
	*made = child;
	return 0;
}

/*
 * After the call, in the parent.  A child that vforked is gone or is another
 * program.  Others own their block by now, which may be gone with them; one with
 * its own table of descriptors has its own copy of @fd.
 */
static void after_shared(struct dune_percpu *pc, const struct request *q,
			 struct dune_percpu *child, int fd, long ret)
{
	if (ret < 0 || q->flags & CLONE_VFORK) {
		if (!(q->flags & CLONE_SIGHAND))
			__dune_sigtable_free(child->sigs);
		child->sigs = NULL;
		if (ret == -DUNE_ERESTART)
			return;
		__dune_block_destroy(child);
	} else if (!(q->flags & CLONE_FILES)) {
		__dune_own3(SYS_close, fd, 0, 0);
	}
	pc->next_child = NULL;
}

/* Did a seccomp filter make a SIGSYS of the call?  Then its result is its number. */
static bool is_trapped(const struct dune_percpu *pc, const struct request *q, long ret)
{
	const siginfo_t *info = (const siginfo_t *)pc->deferred_info;

	return ret == (long)q->regs.rax && pc->deferred && info->si_signo == SIGSYS;
}

long __dune_call_child(struct dune_percpu *pc, const struct dune_regs *r)
{
	struct dune_percpu *child = NULL;
	struct request q;
	long ret = read_request(&q, r);
	uint32_t shared;
	int fd;

	if (!ret) {
		if (q.flags & CLONE_VM)
			ret = prepare_shared(pc, &q, &child);
		else
			ret = prepare_state(pc, &q, pc);
	}
	if (!ret) {
		set_stack(&q, child);
		fd = child ? child->vcpu_fd : -1;
		shared = pc->shares_files;
		pc->shares_files = !!(q.flags & CLONE_FILES);
		ret = __dune_clone(pc, &q.regs, child);
		pc->shares_files = shared;
		if (child)
			after_shared(pc, &q, child, fd, is_trapped(pc, &q, ret) ? -1 : ret);
	}
	return ret;
}

/* ---- in the child ----------------------------------------------------- */

static void cannot(long ret)
{
	__dune_message("a process cannot go on in Dune mode: errno %ld\n", -ret);
	__dune_raise(SIGABRT, SI_USER, 0);
}

static void start(struct dune_percpu *pc)
{
	long ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_SET_STATE, &pc->child_state);

	if (!ret && pc->gate_plain)
		ret = __dune_fast_calls_allow(pc);
	if (ret)
		cannot(ret);
	pc->active = 1;
}

/* On the child's own host stack. */
void __dune_child_shared(struct dune_percpu *pc)
{
	start(pc);
}

/* A vCPU for @pc, with what is in its child_state and _regs.  @err: of getting the VM. */
static void restart(struct dune_percpu *pc, int err)
{
	if (!err)
		err = __dune_vcpu_create(pc);
	if (err)
		cannot(err);
	__dune_copy(&pc->run->regs, &pc->child_regs, sizeof(pc->child_regs));
	start(pc);
}

/* @pc has neither VM nor vCPU. */
void __dune_return_to_vm(struct dune_percpu *pc)
{
	restart(pc, __dune_attach());
}

/*
 * On the copy of the parent's host stack.  The vCPU's two pages were not
 * copied, and its descriptors are the parent's.
 */
void __dune_child_copied(struct dune_percpu *pc)
{
	pc->next_child = NULL;
	pc->sigs->lock = 0;
	pc->vforked = 0;
	pc->alone = 0;
	pc->gate_plain = pc->gate_ret;	/* dispatch is a thread's own */
	__dune_descriptors_copied();
	restart(pc, __dune_attach_copy(pc));
}
