// SPDX-License-Identifier: MIT
/*
 * Threads and processes of ring 3.
 *
 * Each thread has a stack in the arena for ring 0, with its struct thread at the upper end.
 * A child that shares the memory starts there, from a copy of its parent's frame that lies
 * below it; one that has a copy of the memory goes on where its parent was.
 */
#include <sched.h>
#include <sys/mman.h>

#include "monitor.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND	0x100000000UL
#endif

#define MAX_THREADS	4096
#define ARGS_MIN	64

/* The kernel's struct clone_args, CLONE_ARGS_SIZE_VER0. */
struct request {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
};

/* New namespaces would give rights over what the monitor relies on (/proc, for one). */
#define ALLOWED	((uint64_t)(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_VFORK |	\
			    CLONE_PARENT | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |	\
			    CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID | CLONE_DETACHED |	\
			    CLONE_UNTRACED | CLONE_CHILD_SETTID | CLONE_IO | CLONE_PIDFD |	\
			    0xff) | CLONE_CLEAR_SIGHAND)

/* ---- stacks -------------------------------------------------------------------- */

/* 0 free, 1 in use, 2 the thread has said that it ends; mapped for good once used. */
static struct { uint32_t state, mapped; } stacks[MAX_THREADS];

static struct thread *thread_at(uint64_t i)
{
	return (struct thread *)(ARENA_THREADS + (2 * i + 2) * STACK_SIZE - THREAD_SIZE);
}

static bool is_gone(const struct thread *t)
{
	return sys3(SYS_tgkill, sys0(SYS_getpid), t->tid, 0) == -ESRCH;
}

static bool take(uint64_t i)
{
	uint32_t from = __atomic_load_n(&stacks[i].state, __ATOMIC_ACQUIRE);

	if (from == 1 || (from == 2 && !is_gone(thread_at(i))))
		return false;
	return __atomic_compare_exchange_n(&stacks[i].state, &from, 1, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* Below each stack lies as much that is not mapped.  NULL: none to be had. */
struct thread *thread_new(void)
{
	for (uint64_t i = 0; i < MAX_THREADS; i++) {
		struct thread *t = thread_at(i);
		uint64_t low = (uint64_t)t + THREAD_SIZE - STACK_SIZE;

		if (!take(i))
			continue;
		if (!stacks[i].mapped &&
		    sys6(SYS_mmap, low, STACK_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1UL, 0) != (long)low) {
			stacks[i].state = 0;
			return NULL;
		}
		stacks[i].mapped = 1;
		__builtin_memset(t, 0, sizeof(*t));
		t->state = IN_START;
		t->altstack.flags = SS_DISABLE;
		return t;
	}
	return NULL;
}

static uint64_t index_of(const struct thread *t)
{
	return ((uint64_t)t - ARENA_THREADS) / (2 * STACK_SIZE);
}

void thread_free(struct thread *t)
{
	__atomic_store_n(&stacks[index_of(t)].state, 0, __ATOMIC_RELEASE);
}

/* In a process with a copy of the memory: the other threads were not copied. */
static void forget_others(struct thread *t)
{
	for (uint64_t i = 0; i < MAX_THREADS; i++)
		if (i != index_of(t))
			stacks[i].state = 0;
}

/* ---- starting -------------------------------------------------------------------- */

/* Where a thread's first frame lies; start_again keeps its stack clear of it. */
static struct dune_tf *start_frame(struct thread *t)
{
	return (struct dune_tf *)((uint64_t)t - sizeof(struct dune_tf));
}

/* To ring 3.  A signal that comes on the way sends the thread here once more. */
void thread_enter(struct thread *t)
{
	t->state = IN_START;
	deliver_pending(t, t->start);
	dune_jump_to_user(t->start);
	stop("ring 3 could not be entered");
}

void thread_start(struct thread *t, const struct dune_tf *tf)
{
	t->start = start_frame(t);
	*t->start = *tf;
	t->start->pad1 = FRAME_FINAL;
	thread_enter(t);
}

/* What the parent took for the time in which @t begins. */
static void give_back_table(struct thread *t)
{
	if (__atomic_exchange_n(&t->took_table, 0, __ATOMIC_ACQ_REL))
		table_give_back();
}

/* A new thread's first function, in ring 0, on its own stack. */
void child_start(struct thread *t)
{
	t->tid = (uint32_t)sys0(SYS_gettid);
	give_back_table(t);
	if (t->child_clears)
		actions_clear(t->actions);
	dune_set_user_fs(t->child_fs);
	thread_enter(t);
}

/* ---- the call -------------------------------------------------------------------- */

static long read_request(const struct call *call, struct request *q)
{
	uint64_t size = call->arg[1];

	__builtin_memset(q, 0, sizeof(*q));
	switch (call->nr) {
	case SYS_clone:
		q->flags = call->arg[0] & ~0xffUL & 0xffffffff;
		q->exit_signal = call->arg[0] & 0xff;
		q->stack = call->arg[1];
		q->parent_tid = q->pidfd = call->arg[2];
		q->child_tid = call->arg[3];
		q->tls = call->arg[4];
		break;
	case SYS_clone3:
		if (size < ARGS_MIN)
			return -EINVAL;
		if (copy_in(q, call->arg[0], ARGS_MIN))
			return -EFAULT;
		if (size > ARGS_MIN) {	/* set_tid and cgroup: for administrators */
			uint64_t more[3] = { 0 };
			uint64_t n = size - ARGS_MIN;

			if (n > sizeof(more))
				return -E2BIG;
			if (copy_in(more, call->arg[0] + ARGS_MIN, n))
				return -EFAULT;
			if (more[0] || more[1])
				return -EPERM;
		}
		if (!q->stack != !q->stack_size || q->flags & 0xff)
			return -EINVAL;
		q->stack += q->stack_size;
		break;
	case SYS_vfork:
		q->flags = CLONE_VM | CLONE_VFORK;
		/* fallthrough */
	default:
		q->exit_signal = SIGCHLD;
	}
	if (q->flags & ~ALLOWED) {
		report("clone with flags 0x%lx was refused", q->flags);
		return -EPERM;
	}
	if (q->flags & CLONE_VM && !(q->flags & (CLONE_THREAD | CLONE_VFORK))) {
		report("a process that shares memory was refused");
		return -EPERM;
	}
	/* When it ends, its threads would go on in the parent's memory. */
	if (q->flags & CLONE_THREAD && this_thread()->vforked) {
		report("a thread of a process that shares memory was refused");
		return -EPERM;
	}
	if (q->flags & CLONE_FILES && !(q->flags & CLONE_THREAD)) {
		report("a process that shares descriptors was refused");
		return -EPERM;
	}
	if (!is_ring3s_object(q->parent_tid) || !is_ring3s_object(q->child_tid) ||
	    !is_ring3s_object(q->pidfd) || (q->flags & CLONE_SETTLS && q->tls >= USER_END))
		return -EFAULT;
	return 0;
}

/* The kernel gets clone(): all that is left of a request fits into its flags. */
static void write_call(struct call *call, const struct request *q, uint64_t stack)
{
	uint64_t flags = q->flags & ~(uint64_t)(CLONE_SETTLS | CLONE_CLEAR_SIGHAND);

	call->nr = SYS_clone;
	call->arg[0] = flags | (q->exit_signal & 0xff);
	call->arg[1] = stack;
	call->arg[2] = q->flags & CLONE_PIDFD ? q->pidfd : q->parent_tid;
	call->arg[3] = q->child_tid;
	call->arg[4] = 0;
}

static long make_copy(struct call *call, const struct request *q, struct dune_tf *tf)
{
	struct thread *t = this_thread();
	long ret;

	write_call(call, q, 0);
	ask_take();
	table_share();		/* of which the child gets a copy */
	ret = make_call(call);
	if (ret) {
		table_unshare();
		ask_give_back();
		return ret;
	}
	table_copied();
	ask_give_back();
	t->tid = (uint32_t)sys0(SYS_gettid);
	t->actions->users = 1;
	t->robust_list = 0;
	t->vforked = 0;
	forget_others(t);
	forget_held();
	if (q->flags & CLONE_CLEAR_SIGHAND)
		actions_clear(t->actions);
	if (q->stack)
		tf->rsp = q->stack;
	if (q->flags & CLONE_SETTLS)
		dune_set_user_fs(q->tls);
	return 0;
}

static long make_shared(struct call *call, const struct request *q, const struct dune_tf *tf)
{
	struct thread *t = this_thread(), *child;
	long ret;

	child = thread_new();
	if (!child)
		return -EAGAIN;
	if (q->flags & CLONE_SIGHAND) {
		child->actions = t->actions;
		__atomic_add_fetch(&t->actions->users, 1, __ATOMIC_ACQ_REL);
	} else {
		child->actions = actions_new(t->actions);
	}
	if (!child->actions) {
		thread_free(child);
		return -ENOMEM;
	}
	child->vforked = !!(q->flags & CLONE_VFORK);
	if (child->vforked)
		child->altstack = t->altstack;
	child->child_clears = !!(q->flags & CLONE_CLEAR_SIGHAND);
	child->child_fs = q->flags & CLONE_SETTLS ? q->tls : dune_get_user_fs();
	child->start = start_frame(child);
	*child->start = *tf;
	child->start->rax = 0;
	child->start->pad1 = FRAME_FINAL;
	if (q->stack)
		child->start->rsp = q->stack;
	child->tid = ~0U;

	write_call(call, q, stack_top(child));
	child->took_table = table_take();
	ret = make_call(call);
	give_back_table(child);
	if (ret < 0 || q->flags & CLONE_VFORK) {
		/* Gone, or another program: nobody uses its stack any more. */
		if (child->exec_scratch)
			scratch_unmap(child->exec_scratch, child->exec_scratch_size);
		if (child->exec_held)
			unmark_held((long)child->exec_held - 1);
		actions_put(child->actions);
		thread_free(child);
	}
	return ret;
}

long child_call(struct call *call, struct dune_tf *tf)
{
	struct request q;
	long ret = read_request(call, &q);

	if (ret)
		return ret;
	return q.flags & CLONE_VM ? make_shared(call, &q, tf) : make_copy(call, &q, tf);
}

long exit_call(struct call *call, struct dune_tf *tf)
{
	struct thread *t = this_thread();

	(void)tf;
	robust_exit(t);
	if (call->nr == SYS_exit && !t->vforked) {
		actions_put(t->actions);
		__atomic_store_n(&stacks[index_of(t)].state, 2, __ATOMIC_RELEASE);
	}
	return sys1(call->nr, call->arg[0]);
}
