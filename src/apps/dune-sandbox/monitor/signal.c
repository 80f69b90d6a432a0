// SPDX-License-Identifier: MIT
/*
 * Signals of ring 3.
 *
 * Linux decides which one comes, when, and whether a call is made again, and calls
 * on_signal() in ring 0, for every signal that ring 3 handles.  If the thread was in ring 3,
 * its registers are changed there and then to run the handler; if it was in the monitor,
 * that is done when the monitor is through, and until then all signals are blocked.
 *
 * Where it was: thread.state tells, but for the few instructions between ring 3 and the
 * first of ring3_call, and behind its last.  There the stack pointer stands at ring 3's
 * frame, and dune_tf.pad1 tells them apart: the gate makes a frame with 0 in it, and
 * ring3_call leaves FRAME_FINAL.
 */
#include <ucontext.h>

#include "monitor.h"

#define KERNEL_ONLY	(SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))
#define SA_RESTORER_	0x04000000UL
#define SA_KEPT		((uint64_t)(SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT))
#define ALL		(~0UL)

static uint64_t set_mask(uint64_t mask)
{
	uint64_t old = 0;

	sys4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, 8);
	return old;
}

static bool is_handler(const struct action *act)
{
	return act->handler > 1;
}

/* ---- delivering ------------------------------------------------------------ */

static struct action take_action(struct thread *t, int sig)
{
	struct action act = t->actions->of[sig];

	if (act.flags & SA_RESETHAND && is_handler(&act)) {
		struct action none = { 0 };

		t->actions->of[sig] = none;
		sys4(SYS_rt_sigaction, sig, &none, NULL, 8);
	}
	return act;
}

static uint64_t mask_under(uint64_t mask, const struct action *act, int sig)
{
	return (mask | act->mask | (act->flags & SA_NODEFER ? 0 : SIG_BIT(sig))) & ~KERNEL_ONLY;
}

static void no_stack(struct thread *t, struct dune_tf *tf, int sig)
{
	siginfo_t info;

	__builtin_memset(&info, 0, sizeof(info));
	info.si_signo = SIGSEGV;
	info.si_code = SI_KERNEL;
	if (sig != SIGSEGV) {
		struct action act = take_action(t, SIGSEGV);

		if (is_handler(&act) &&
		    !push_frame(t, tf, SIGSEGV, &info, t->mask_before, &act, NULL))
			return;
	}
	die_by_signal(&info);
}

/* The pending signal's frame.  Returns the mask that its handler runs under. */
static uint64_t deliver(struct thread *t, struct dune_tf *tf)
{
	int sig = t->info.si_signo;
	struct action act = take_action(t, sig);
	uint64_t mask = t->mask_before;

	if (!is_handler(&act)) {	/* changed meanwhile: let Linux decide again */
		sys4(SYS_rt_tgsigqueueinfo, sys0(SYS_getpid), sys0(SYS_gettid), sig, &t->info);
	} else {
		if (push_frame(t, tf, sig, &t->info, mask, &act, NULL))
			no_stack(t, tf, sig);
		mask = mask_under(mask, &act, sig);
	}
	t->pending = 0;
	return mask;
}

/* In the monitor.  Unblocking lets the next one in. */
void deliver_pending(struct thread *t, struct dune_tf *tf)
{
	while (__atomic_load_n(&t->pending, __ATOMIC_ACQUIRE)) {
		uint32_t state = t->state;

		t->state = state == IN_START ? IN_START : IN_MONITOR;
		set_mask(deliver(t, tf));
		t->state = state;
	}
}

/* Can ring 3's frame be changed now, by a signal handler that interrupted @rsp? */
static bool frame_ready(const struct thread *t, const struct dune_tf *frame, uint64_t rsp)
{
	if (t->state != IN_RING3 || !frame)
		return false;
	return rsp < (uint64_t)frame - 8 || frame->pad1 != 0;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint64_t *mask = (uint64_t *)&uc->uc_sigmask;
	greg_t *r = uc->uc_mcontext.gregs;
	struct thread *t = this_thread();
	struct dune_tf *frame = dune_user_frame();
	uint64_t rip = (uint64_t)r[REG_RIP], rsp = (uint64_t)r[REG_RSP];

	if (t->pending) {	/* libdune forced it */
		sys4(SYS_rt_tgsigqueueinfo, sys0(SYS_getpid), sys0(SYS_gettid), sig, info);
		*mask |= SIG_BIT(sig);
		return;
	}
	t->info = *info;
	t->mask_before = *mask;
	t->pending = 1;
	*mask = ALL;
	if (rip >= (uint64_t)forward_check && rip <= (uint64_t)forward_insn)
		r[REG_RIP] = (greg_t)forward_restart;
	if (frame_ready(t, frame, rsp) ||
	    (t->state == IN_START && frame && rsp < (uint64_t)frame - 8)) {
		t->state = IN_MONITOR;
		t->vectors = uc->uc_mcontext.fpregs;
		*mask = deliver(t, frame);
		t->vectors = NULL;
		frame->pad1 = FRAME_SIGNAL;
		t->state = IN_RING3;
	} else if (t->state == IN_START) {
		r[REG_RIP] = (greg_t)start_again;
		r[REG_RDI] = (greg_t)t;
		r[REG_RSP] = (greg_t)stack_top(t);
	}
}

/* ---- exceptions -------------------------------------------------------------- */

/* With the default action, which is to end. */
void die_by_signal(siginfo_t *info)
{
	struct action none = { 0 };
	uint64_t bit = SIG_BIT(info->si_signo);

	sys4(SYS_rt_sigaction, info->si_signo, &none, NULL, 8);
	sys4(SYS_rt_tgsigqueueinfo, sys0(SYS_getpid), sys0(SYS_gettid), info->si_signo, info);
	sys4(SYS_rt_sigprocmask, SIG_UNBLOCK, &bit, NULL, 8);
	stop("a signal did not end it");
}

void deliver_fault(struct thread *t, struct dune_tf *tf, siginfo_t *info,
		   const struct trap_words *trap)
{
	int sig = info->si_signo;
	uint64_t mask = set_mask(ALL);
	struct action act;

	if (t->pending)		/* one came before: its mask is the thread's */
		mask = t->mask_before;
	act = take_action(t, sig);
	if (!is_handler(&act) || mask & SIG_BIT(sig))
		die_by_signal(info);
	t->mask_before = mask;
	if (push_frame(t, tf, sig, info, mask, &act, trap))
		no_stack(t, tf, sig);
	mask = mask_under(mask, &act, sig);
	if (t->pending)
		t->mask_before = mask;
	else
		set_mask(mask);
}

/* ---- calls ------------------------------------------------------------------ */

static struct action for_kernel(const struct action *act)
{
	if (!is_handler(act))
		return *act;
	return (struct action) {
		.handler = (uint64_t)on_signal,
		.flags = (act->flags & SA_KEPT) | SA_SIGINFO | SA_RESTORER_,
		.restorer = (uint64_t)signal_restorer,
		.mask = ALL,
	};
}

static long change_action(struct call *call)
{
	uint64_t sig = call->arg[0];
	struct actions *actions = this_thread()->actions;
	struct action new = { 0 }, old, k;
	long ret;

	if (call->arg[3] != 8 || sig < 1 || sig > NR_SIGNALS)
		return -EINVAL;
	if (call->arg[1] && copy_in(&new, call->arg[1], sizeof(new)))
		return -EFAULT;
	old = actions->of[sig];
	if (call->arg[1]) {
		new.mask &= ~KERNEL_ONLY;
		k = for_kernel(&new);
		/* Before the kernel: a handler that it calls must be found. */
		if (is_handler(&new))
			actions->of[sig] = new;
		ret = sys4(SYS_rt_sigaction, sig, &k, NULL, 8);
		actions->of[sig] = ret ? old : new;
		if (ret)
			return ret;
	} else if (SIG_BIT(sig) & KERNEL_ONLY) {
		old = (struct action){ 0 };
	}
	return call->arg[2] ? copy_out(call->arg[2], &old, sizeof(old)) : 0;
}

bool on_altstack(const struct thread *t, uint64_t sp)
{
	const struct altstack *a = &t->altstack;

	return !(a->flags & (int)SS_AUTODISARM_) && sp > a->sp && sp - a->sp <= a->size;
}

static long change_altstack(struct call *call, const struct dune_tf *tf)
{
	struct thread *t = this_thread();
	struct altstack new, old = t->altstack;

	old.flags &= (int)SS_AUTODISARM_;
	if (!old.size)
		old.flags |= SS_DISABLE;
	else if (on_altstack(t, tf->rsp))
		old.flags |= SS_ONSTACK;
	if (call->arg[0]) {
		int mode;

		if (copy_in(&new, call->arg[0], sizeof(new)))
			return -EFAULT;
		if (on_altstack(t, tf->rsp))
			return -EPERM;
		mode = new.flags & ~(int)SS_AUTODISARM_;
		if (mode != SS_DISABLE && mode != SS_ONSTACK && mode)
			return -EINVAL;
		if (mode == SS_DISABLE)
			new.sp = new.size = 0;
		else if (new.size < MINSIGSTKSZ_)
			return -ENOMEM;
		t->altstack = new;
	}
	return call->arg[1] ? copy_out(call->arg[1], &old, sizeof(old)) : 0;
}

static void __attribute__((noreturn)) return_from_handler(struct dune_tf *tf)
{
	struct thread *t = this_thread();
	siginfo_t info;
	uint64_t mask;

	if (t->pending) {		/* the mask is blocked for it; it comes after this one */
		set_mask(ALL);
		if (!pop_frame(t, tf, &mask)) {
			t->mask_before = mask & ~KERNEL_ONLY;
			goto out;
		}
	} else if (!pop_frame(t, tf, &mask)) {
		set_mask(mask & ~KERNEL_ONLY);
		goto out;
	}
	report("a bad signal frame at 0x%lx", tf->rsp);
	__builtin_memset(&info, 0, sizeof(info));
	info.si_signo = SIGSEGV;
	info.si_code = SI_KERNEL;
	deliver_fault(t, tf, &info, &(struct trap_words){ 0 });
out:
	tf->pad1 = FRAME_FINAL;
	t->state = IN_RING3;
	deliver_pending(t, tf);
	dune_pop_trap_frame(tf);
}

long signal_call(struct call *call, struct dune_tf *tf)
{
	switch (call->nr) {
	case SYS_rt_sigaction:
		return change_action(call);
	case SYS_sigaltstack:
		return change_altstack(call, tf);
	default:
		return_from_handler(tf);
	}
}

/* ---- tables -------------------------------------------------------------------- */

struct actions *actions_new(const struct actions *from)
{
	struct actions *a = scratch_map(sizeof(*a));

	if (!a)
		return NULL;
	if (from)
		*a = *from;
	a->users = 1;
	return a;
}

void actions_put(struct actions *a)
{
	if (!__atomic_sub_fetch(&a->users, 1, __ATOMIC_ACQ_REL))
		scratch_unmap(a, sizeof(*a));
}

/* CLONE_CLEAR_SIGHAND */
void actions_clear(struct actions *a)
{
	struct action none = { 0 };

	for (int sig = 1; sig <= NR_SIGNALS; sig++)
		if (is_handler(&a->of[sig])) {
			a->of[sig] = none;
			sys4(SYS_rt_sigaction, sig, &none, NULL, 8);
		}
}
