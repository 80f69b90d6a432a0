// SPDX-License-Identifier: MIT
/*
 * The program's signal actions and alternate stacks: rt_sigaction, sigaltstack.
 *
 * Lean code, on the host stack.  While it runs signals are put off, so the lock
 * is never wanted by a handler that interrupted its holder.
 */
#include <errno.h>
#include <sys/syscall.h>

#include "sigframe.h"

struct dune_sigtable __dune_sigs;

static void lock(struct dune_sigtable *t)
{
	uint32_t free = 0;

	while (!__atomic_compare_exchange_n(&t->lock, &free, 1, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		__dune_own3(SYS_sched_yield, 0, 0, 0);
		free = 0;
	}
}

static void unlock(struct dune_sigtable *t)
{
	__atomic_store_n(&t->lock, 0, __ATOMIC_RELEASE);
}

static long kernel_action(int sig, const struct dune_sigaction *act, struct dune_sigaction *old)
{
	return __dune_syscall4(SYS_rt_sigaction, sig, act, old, 8);
}

/*
 * The action that Linux gets for a program's handler.  SIGSEGV and SIGBUS stay
 * open: a frame that does not fit on the guest's stack must come back here.  Not
 * while one of them is being taken: somebody who sends both as fast as Linux builds
 * frames would fill the host stack before any of their handlers has begun.
 * SA_ONSTACK would mean Linux's own alternate stack, which is the host side's.
 */
static struct dune_sigaction host_action(int sig, const struct dune_sigaction *act)
{
	return (struct dune_sigaction) {
		.handler = (uint64_t)__dune_host_signal,
		.flags = (act->flags & ~(uint64_t)SA_ONSTACK) | SA_SIGINFO | SA_NODEFER |
			 SA_RESTORER,
		.restorer = (uint64_t)__dune_restorer,
		.mask = SIG_BIT(sig) & SIG_SYNC ? ~0ULL : ~SIG_SYNC,
	};
}

/* What Linux gets for an action of the program's. */
static struct dune_sigaction action_for_kernel(int sig, const struct dune_sigaction *act)
{
	bool handled = act->handler ? is_handler(act->handler) : __dune_dumps_core(sig);

	return handled ? host_action(sig, act) : *act;
}

/* The flags that host_action() decides: the program's own are in the table. */
#define OWN_FLAGS	((uint64_t)(SA_SIGINFO | SA_NODEFER | SA_RESTORER | SA_ONSTACK))

/* What Linux has, in the program's words.  @t: the table's entry for it. */
static struct dune_sigaction program_action(const struct dune_sigaction *host,
					    const struct dune_sigaction *t)
{
	bool ours = host->handler == (uint64_t)__dune_host_signal;
	struct dune_sigaction act = *host;

	/* SA_RESETHAND resets the handler alone: the rest of the action is still ours. */
	if (ours || host->restorer == (uint64_t)__dune_restorer) {
		act = *t;
		act.handler = ours ? t->handler : host->handler;
		act.flags = (t->flags & OWN_FLAGS) | (host->flags & ~OWN_FLAGS);
	}
	return act;
}

/* Is [p, p + 8) readable?  The new mask is read before "how" is looked at. */
static bool readable(uint64_t p)
{
	return __dune_own4(SYS_rt_sigprocmask, -1, p, 0, 8) != -EFAULT;
}

/* [@from, @from + @n), n at least 8, from the program's memory: 0, -EFAULT. */
long __dune_copy_in(void *to, uint64_t from, size_t n)
{
	uint64_t last = from + n - 8, at;

	if (!readable(from) || !readable(last))
		return -EFAULT;
	for (at = (from | 4095) + 1; at < last; at += 4096)
		if (!readable(at))
			return -EFAULT;
	return __dune_copy_user(to, (const void *)from, n) ? -EFAULT : 0;
}

static long change(struct dune_sigtable *t, int sig, const struct dune_sigaction *new,
		   struct dune_sigaction *old)
{
	struct dune_sigaction host, saved, k;
	long ret;

	lock(t);
	saved = t->act[sig];
	if (new) {
		k = action_for_kernel(sig, new);
		t->act[sig] = *new;
		t->act[sig].mask &= ~SIG_KERNEL_ONLY;
	}
	ret = kernel_action(sig, new ? &k : NULL, &host);
	if (ret)
		t->act[sig] = saved;
	else
		*old = program_action(&host, &saved);
	unlock(t);
	return ret;
}

long __dune_sigaction(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	struct dune_sigaction new, old;
	int sig = (int)r->rdi;
	long ret;

	/* What Linux refuses, it refuses; so it does with signals nobody handles. */
	if (r->r10 != 8 || sig < 1 || sig > NR_SIGNALS || SIG_BIT(sig) & SIG_KERNEL_ONLY)
		return __dune_forward(r);
	if (r->rsi && __dune_copy_in(&new, r->rsi, sizeof(new)))
		return -EFAULT;
	ret = change(pc->sigs, sig, r->rsi ? &new : NULL, &old);
	if (ret || !r->rdx)
		return ret;
	/* The kernel writes it first: that is the check of the address. */
	ret = kernel_action(sig, NULL, (struct dune_sigaction *)r->rdx);
	if (!ret && __dune_copy_user((void *)r->rdx, &old, sizeof(old)))
		ret = -EFAULT;
	return ret;
}

/*
 * The action for @sig, as the host handler is about to carry it out.  Linux has
 * reset it already if it was to be reset.
 */
struct dune_sigaction __dune_action_take(struct dune_percpu *pc, int sig)
{
	struct dune_sigtable *t = pc ? pc->sigs : &__dune_sigs;
	struct dune_sigaction act;

	lock(t);
	act = t->act[sig];
	if (act.flags & SA_RESETHAND)
		t->act[sig].handler = 0;
	unlock(t);
	return act;
}

/* The default action, as Linux sees to it when a fault meets a blocked signal. */
void __dune_action_reset(struct dune_sigtable *t, int sig)
{
	struct dune_sigaction k;

	lock(t);
	__dune_clear(&t->act[sig], sizeof(t->act[sig]));
	k = action_for_kernel(sig, &t->act[sig]);
	__dune_own4(SYS_rt_sigaction, sig, &k, NULL, 8);
	unlock(t);
}

/* No action changes any more: the process is about to end. */
void __dune_sigtable_freeze(struct dune_sigtable *t)
{
	lock(t);
}

/* The actions that the process had before Dune mode. */
void __dune_sigactions_init(void)
{
	for (int sig = 1; sig <= NR_SIGNALS; sig++) {
		struct dune_sigaction act, old, k;

		if (SIG_BIT(sig) & SIG_KERNEL_ONLY || kernel_action(sig, NULL, &act) ||
		    act.handler == (uint64_t)__dune_host_signal)
			continue;
		k = action_for_kernel(sig, &act);
		if (!is_handler(k.handler))
			continue;
		__dune_sigs.act[sig] = act;
		kernel_action(sig, &k, &old);
	}
}

/* Linux gets the program's handlers: the process goes on outside Dune mode. */
void __dune_sigactions_give_back(const struct dune_percpu *pc)
{
	struct dune_sigaction host;

	for (int sig = 1; sig <= NR_SIGNALS; sig++)
		if (!kernel_action(sig, NULL, &host) &&
		    host.handler == (uint64_t)__dune_host_signal)
			kernel_action(sig, &pc->sigs->act[sig], &host);
}

/* A copy of *@from for a child that shares the memory and not the actions. */
struct dune_sigtable *__dune_sigtable_copy(struct dune_sigtable *from)
{
	long p = __dune_map_own(sizeof(*from), 4096, 3 /* read, write */, 0);
	struct dune_sigtable *t = (struct dune_sigtable *)p;

	if (p < 0 && p > -4096)
		return NULL;
	lock(from);
	__dune_copy(t, from, sizeof(*t));
	unlock(from);
	t->lock = 0;
	return t;
}

void __dune_sigtable_free(struct dune_sigtable *t)
{
	if (t != &__dune_sigs)
		__dune_own3(SYS_munmap, t, sizeof(*t), 0);
}

/* ---- alternate stacks ------------------------------------------------ */

/*
 * Linux checks the arguments, on behalf of a thread that has no alternate stack
 * and keeps none.
 */
long __dune_sigaltstack(struct dune_percpu *pc)
{
	static const struct dune_altstack none = { .flags = SS_DISABLE };
	const struct dune_regs *r = &pc->run->regs;
	struct dune_altstack asked = none, new = none, old = pc->altstack;
	bool on = __dune_on_altstack(pc, r->rsp);
	long ret;

	ret = __dune_syscall3(SYS_sigaltstack, r->rdi, r->rsi, 0);
	if (r->rdi && on && (!ret || ret == -EINVAL || ret == -ENOMEM))
		ret = -EPERM;
	if (!ret && r->rdi && (__dune_syscall3(SYS_sigaltstack, 0, &new, 0) ||
			       __dune_copy_user(&asked, (const void *)r->rdi, sizeof(asked))))
		ret = -EFAULT;
	__dune_syscall3(SYS_sigaltstack, &none, 0, 0);
	if (ret)
		return ret;
	if (r->rdi) {
		pc->altstack = new;
		pc->altstack.flags = asked.flags;	/* as a signal frame shows them */
	}
	if (!r->rsi)
		return 0;
	old.flags &= SS_AUTODISARM_BIT;
	if (!old.size)
		old.flags |= SS_DISABLE;
	else if (on)
		old.flags |= SS_ONSTACK;
	return __dune_copy_user((void *)r->rsi, &old, sizeof(old)) ? -EFAULT : 0;
}

/* The stack that the thread had before it entered is libdune's to manage now. */
void __dune_altstack_adopt(struct dune_percpu *pc)
{
	static const struct dune_altstack none = { .flags = SS_DISABLE };
	struct dune_altstack old;

	pc->altstack.flags = SS_DISABLE;
	if (!__dune_syscall3(SYS_sigaltstack, &none, &old, 0))
		pc->altstack = old;
}
