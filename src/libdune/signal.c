// SPDX-License-Identifier: MIT
/*
 * The host side's signal handler: see sigframe.h.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "sigframe.h"

extern const char __dune_run_done[], __dune_call_load[],
	__dune_call_insn[], __dune_call_done[], __dune_call_stored[], __dune_call_end[],
	__dune_host_c[], __dune_plain_check[], __dune_plain_jump[],
	__dune_clone_check[], __dune_clone_insn[], __dune_exec_check[],
	__dune_exec_insn[], __dune_exec_put_off[], __dune_copy_words[], __dune_copy_bytes[],
	__dune_copy_refused[], __dune_int80_load[], __dune_int80_insn[], __dune_int80_done[],
	__dune_restorer_done[];
extern const char __start_dune_signal[] __attribute__((visibility("hidden"))),
	__stop_dune_signal[] __attribute__((visibility("hidden")));

#define SIG_IGN_	1	/* as the kernel has it */
#define SYS_SECCOMP_	1	/* si_code */

/* ---- masks ------------------------------------------------------------ */

/* While a signal is put off the kernel's mask is not the thread's. */
static uint64_t thread_mask(const struct dune_percpu *pc, const struct dune_ucontext *uc)
{
	return pc->deferred ? pc->deferred_mask : uc->sigmask;
}

static void set_thread_mask(struct dune_percpu *pc, struct dune_ucontext *uc, uint64_t mask)
{
	if (pc->deferred)
		pc->deferred_mask = mask;
	else
		uc->sigmask = mask;
}

/* The mask that an interrupted call had put in place for its own duration, or @mask. */
static uint64_t call_mask(const struct dune_regs *r, uint64_t mask)
{
	uint64_t arg, words[2] = { 0, 0 };

	switch (r->rax) {
	case SYS_rt_sigsuspend:
		arg = r->rdi;
		break;
	case SYS_ppoll:
		arg = r->r10;
		break;
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
		arg = r->r8;
		break;
	case SYS_pselect6:
	case SYS_io_pgetevents:
		if (!r->r9 || __dune_copy_in(words, r->r9, sizeof(words)))
			return mask;
		arg = words[0];
		break;
	case SYS_io_uring_enter:
		arg = r->r8;
		if (r->r10 & IORING_ENTER_EXT_ARG && arg) {
			if (__dune_copy_in(words, arg, sizeof(words)))
				return mask;
			arg = words[0];	/* struct io_uring_getevents_arg */
		}
		break;
	default:
		return mask;
	}
	if (arg && !__dune_copy_in(words, arg, 8))
		mask = words[0] & ~SIG_KERNEL_ONLY;
	return mask;
}

/* ---- queueing and forcing --------------------------------------------- */

long __dune_queue_signal(int sig, const void *info)
{
	long pid = __dune_own3(SYS_getpid, 0, 0, 0);
	long tid = __dune_own3(SYS_gettid, 0, 0, 0);

	return __dune_own4(SYS_rt_tgsigqueueinfo, pid, tid, sig, info);
}

/*
 * What the kernel does with the signal of an exception: if the program blocks
 * or ignores it, the default action.
 */
void __dune_force_info(struct dune_percpu *pc, const siginfo_t *info)
{
	struct dune_sigaction act;
	int sig = info->si_signo;
	uint64_t mask = 0, bit = SIG_BIT(sig);

	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, 0, &mask, 8);
	if (pc->deferred)
		mask = pc->deferred_mask;
	else if (pc->restoring)
		mask = pc->restore_mask;
	__dune_own4(SYS_rt_sigaction, sig, 0, &act, 8);
	if (mask & bit || act.handler == SIG_IGN_) {
		__dune_action_reset(pc->sigs, sig);
		pc->deferred_mask &= ~bit;
		pc->restore_mask &= ~bit;
		__dune_own4(SYS_rt_sigprocmask, SIG_UNBLOCK, &bit, 0, 8);
	}
	if (__dune_queue_signal(sig, info))
		/* a seccomp filter of the parent's knows another process */
		__dune_raise(sig, info->si_code, (uint64_t)info->si_addr);
}

void __dune_force_signal(struct dune_percpu *pc, int sig, int code, uint64_t addr)
{
	siginfo_t info;

	__dune_clear(&info, sizeof(info));
	info.si_signo = sig;
	info.si_code = code;
	info.si_addr = (void *)addr;
	__dune_force_info(pc, &info);
}

/* ---- putting off ------------------------------------------------------ */

/*
 * Not now: what the handler interrupted goes on with @sig blocked.  So it is here, lest
 * it come again at once.
 */
static void queue_again(int sig, const void *info, struct dune_ucontext *uc)
{
	uint64_t bit = SIG_BIT(sig);

	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, &bit, 0, 8);
	__dune_queue_signal(sig, info);
	uc->sigmask |= bit;
}

static void put_off(struct dune_percpu *pc, int sig, const void *info, struct dune_ucontext *uc)
{
	if (pc->deferred) {	/* the place is taken: SIGSEGV or SIGBUS, sent by somebody */
		queue_again(sig, info, uc);
		return;
	}
	__dune_copy(pc->deferred_info, info, DUNE_SIGINFO_SIZE);
	pc->deferred_mask = pc->restoring ? pc->restore_mask : uc->sigmask;
	pc->deferred = 1;
	pc->floor = ~0ULL;
	pc->run->regs.rip = __dune_trap_recheck(pc->run->regs.rip);
	uc->sigmask |= ~SIG_SYNC;
}

/*
 * Can the guest, as it stands, take a frame?  Not on the trap entry's own stacks,
 * and not in ring 3 or on the way there.
 */
static bool guest_ready(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;
	const struct dune_tf *returning = __dune_trap_returning(pc, r->rip, r->rsp);
	uint64_t offset;

	if (returning)
		__dune_take_frame(r, returning);
	offset = r->rsp - (uint64_t)pc;
	return (offset <= DUNE_IST_BOTTOM || offset > DUNE_IST3_TOP) && !__dune_ring_busy(pc);
}

/* The guest cannot take a frame.  Out of ring 3, where it would not look. */
static void call_back(struct dune_percpu *pc)
{
	struct dune_inject *inject = &pc->run->inject;

	if (inject->valid || !__dune_ring_busy(pc))
		return;
	__dune_clear(inject, sizeof(*inject));
	inject->vector = DUNE_VEC_KICK;
	inject->valid = 1;
}

/*
 * A frame for @sig.  *@mask: before, what the handler's frame restores, and
 * @base what is added to; after, what the handler runs under.
 */
static void deliver(struct dune_percpu *pc, int sig, const void *info,
		    struct dune_ucontext *uc, struct dune_fpstate fp,
		    uint64_t base, uint64_t *mask)
{
	struct dune_sigaction act = __dune_action_take(pc, sig);

	if (!act.handler && __dune_dumps_core(sig)) {
		__dune_default_action(pc, sig, info, uc);
		return;
	}
	if (!is_handler(act.handler)) {
		/* Changed since Linux decided: let it decide again. */
		__dune_queue_signal(sig, info);
		return;
	}
	if (!__dune_push_frame(pc, sig, info, uc, *mask, &act, fp)) {
		*mask = (base | act.mask | (act.flags & SA_NODEFER ? 0 : SIG_BIT(sig))) &
			~SIG_KERNEL_ONLY;
		return;
	}
	/* As the kernel does: a stack that takes no frame is a SIGSEGV. */
	if (sig == SIGSEGV) {
		siginfo_t none;

		__dune_clear(&none, sizeof(none));
		none.si_signo = SIGSEGV;
		none.si_code = SI_KERNEL;
		__dune_default_action(pc, SIGSEGV, &none, uc);
	}
	__dune_force_signal(pc, SIGSEGV, SI_KERNEL, 0);
}

/*
 * Between two runs: a signal was put off, and the code that could not be
 * interrupted is done.  0: the guest cannot take it yet; else the caller sets
 * the mask to pc->resume_mask.
 */
int __dune_deliver_deferred(struct dune_percpu *pc)
{
	const siginfo_t *info = (const siginfo_t *)pc->deferred_info;
	char area[__dune_frame_fpu_size] __attribute__((aligned(64)));
	struct dune_ucontext uc;
	uint64_t mask = pc->deferred_mask;

	if (!guest_ready(pc)) {
		call_back(pc);
		return 0;
	}
	if (mask & SIG_BIT(info->si_signo)) {	/* blocked since by another handler */
		__dune_queue_signal(info->si_signo, info);
		pc->resume_mask = mask;
		pc->deferred = 0;
		return 1;
	}
	__dune_clear(&uc, sizeof(uc));
	uc.fpstate = (uint64_t)area;
	__dune_frame_fpu_save(area);
	pc->resume_mask = mask;
	deliver(pc, info->si_signo, info, &uc, __dune_fpstate_of(&uc), mask, &pc->resume_mask);
	__dune_fpstate_reset(&uc);
	__dune_frame_fpu_load(area);
	pc->deferred = 0;
	return 1;
}

/* ---- the handler ------------------------------------------------------ */

/* Always inline: in_handler() needs it where the handler is known by its place. */
static __attribute__((always_inline)) inline bool within(uint64_t rip, const char *first,
							 const char *last)
{
	return rip >= (uint64_t)first && rip <= (uint64_t)last;
}

/* The call that the guest asked for was not made: it makes it again. */
void __dune_take_back_call(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;

	if (r->rip == pc->gate_ret) {
		r->rip = r->rcx - DUNE_SYSCALL_LEN;
		r->rflags = r->r11;
	} else {
		r->rip -= DUNE_HYPERCALL_LEN;
	}
}

/* A handler without SA_RESTART ended the call that the module was making. */
void __dune_end_fast_call(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;

	r->rax = (uint64_t)-EINTR;
	r->rip = pc->gate_ret;
	r->rflags = r->r11;
}

/* DUNE_RUN returned @err, and nothing was done about it yet. */
static bool exit_ready(struct dune_percpu *pc, long err)
{
	if (err == -EINTR) {	/* a call that the module was making */
		__dune_end_fast_call(pc);
		return true;
	}
	if (err)
		return err == -EAGAIN;
	switch (pc->run->exit_reason) {
	case DUNE_EXIT_SYSCALL:
		__dune_take_back_call(pc);
		return true;
	case DUNE_EXIT_INTERRUPTED:
	case DUNE_EXIT_FAULT:
		return true;
	default:
		return false;
	}
}

/*
 * Make the guest's registers in the run page what the program would show if it
 * had been interrupted itself.  False: code is at work that cannot be left.
 */
static bool complete(struct dune_percpu *pc, const struct dune_ucontext *uc)
{
	uint64_t rip = uc->rip;

	if (rip == (uint64_t)__dune_run_done)
		return exit_ready(pc, (int)uc->rax);
	if (rip == (uint64_t)__dune_call_done) {
		pc->run->regs.rax = uc->rax;
		return true;
	}
	if (within(rip, __dune_call_stored, __dune_call_end))
		return true;
	if (within(rip, __dune_call_load, __dune_call_insn) ||
	    within(rip, __dune_plain_check, __dune_plain_jump))
		return exit_ready(pc, 0);
	if (within(rip, __dune_run_done, __dune_host_c))
		return exit_ready(pc, (long)uc->rsi);
	if (rip >= (uint64_t)__dune_host_resume && rip < (uint64_t)__dune_run_done)
		return true;
	if (within(rip, __dune_clone_check, __dune_clone_insn)) {
		__dune_take_back_call(pc);
		return true;
	}
	if (within(rip, __dune_int80_load, __dune_int80_insn)) {
		pc->run->regs.rip -= DUNE_INT80_LEN;
		return true;
	}
	if (rip == (uint64_t)__dune_int80_done) {
		pc->run->regs.rax = uc->rax;
		return true;
	}
	/* The replay of an access: the guest stands at the instruction itself. */
	return rip == (uint64_t)__dune_replay_read || rip == (uint64_t)__dune_replay_write;
}

static void resume_host(struct dune_percpu *pc, struct dune_ucontext *uc)
{
	uc->rip = (uint64_t)__dune_host_resume;
	uc->rsp = pc->host_rsp;
	uc->rbx = (uint64_t)pc;
	uc->r12 = (uint64_t)pc->run;
	uc->rbp = 0;
}

/* A filter's verdict on a call of the program's: it was not the stub that made it. */
static void correct_call_addr(const struct dune_percpu *pc, siginfo_t *info, uint64_t rip)
{
	const struct dune_regs *r = &pc->run->regs;

	if (info->si_signo == SIGSYS && info->si_code == SYS_SECCOMP_ &&
	    (uint64_t)info->si_call_addr == rip)
		info->si_call_addr = (void *)(r->rip == pc->gate_ret ? r->rcx : r->rip);
}

static void interrupt_guest(struct dune_percpu *pc, int sig, siginfo_t *info,
			    struct dune_ucontext *uc)
{
	bool called = uc->rip == (uint64_t)__dune_call_done;
	uint64_t mask = thread_mask(pc, uc), base;

	if (pc->masked & SIG_BIT(sig)) {
		if (info->si_code <= 0) {	/* sent: the program blocks it */
			queue_again(sig, info, uc);
			return;
		}
		__dune_action_reset(pc->sigs, sig);
	}
	correct_call_addr(pc, info, uc->rip);
	/*
	 * The mask of a call is in place if a signal ended it.  io_uring_enter() may
	 * have done something before, and says that: then the signal tells.
	 */
	if (called && ((long)uc->rax == -EINTR || mask & SIG_BIT(sig)))
		base = call_mask(&pc->run->regs, mask);
	else
		base = mask;
	if (!complete(pc, uc)) {
		put_off(pc, sig, info, uc);
		if (within(uc->rip, __dune_exec_check, __dune_exec_insn))
			uc->rip = (uint64_t)__dune_exec_put_off;
		return;
	}
	resume_host(pc, uc);
	if (!guest_ready(pc)) {
		put_off(pc, sig, info, uc);
		return;
	}
	deliver(pc, sig, info, uc, __dune_fpstate_of(uc), base, &mask);
	__dune_fpstate_reset(uc);
	set_thread_mask(pc, uc, mask);
}

/* A thread of the program that is not in Dune mode. */
static void interrupt_outside(int sig, siginfo_t *info, struct dune_ucontext *uc)
{
	struct dune_sigaction act = __dune_action_take(NULL, sig);
	uint64_t mask = uc->sigmask | act.mask | (act.flags & SA_NODEFER ? 0 : SIG_BIT(sig));

	if (!act.handler && __dune_dumps_core(sig)) {
		__dune_default_outside(sig, info, uc);
		return;
	}
	if (!is_handler(act.handler)) {
		__dune_queue_signal(sig, info);
		return;
	}
	__dune_own4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
	((void (*)(int, siginfo_t *, void *))act.handler)(sig, info, uc);
}

/*
 * Was a handler interrupted, by SIGSEGV or SIGBUS?  One that had just begun, or was about to
 * return, does not say so itself; and its mask is not the thread's.
 */
static __attribute__((always_inline)) inline bool in_handler(const struct dune_percpu *pc,
							     uint64_t rip)
{
	return pc->handling ||
	       (rip >= (uint64_t)__start_dune_signal && rip < (uint64_t)__stop_dune_signal) ||
	       within(rip, __dune_restorer, __dune_restorer_done);
}

DUNE_SIGNAL_TEXT void __dune_host_signal(int sig, void *siginfo, void *ucontext)
{
	struct dune_ucontext *uc = ucontext;
	siginfo_t *info = siginfo;
	uint64_t sync = SIG_SYNC;
	struct dune_percpu *pc = __dune_block_around(uc->rsp);

	/* A fault of the copy; a timer's SIGALRM has a code of the kernel's, too. */
	if (SIG_SYNC & SIG_BIT(sig) && info->si_code > 0 &&
	    (uc->rip == (uint64_t)__dune_copy_words || uc->rip == (uint64_t)__dune_copy_bytes)) {
		uc->rip = (uint64_t)__dune_copy_refused;
		return;
	}
	if (!pc) {
		interrupt_outside(sig, info, uc);
		return;
	}
	if (in_handler(pc, uc->rip)) {	/* sent by somebody, or of a frame */
		queue_again(sig, info, uc);
		return;
	}
	pc->handling = 1;
	if (SIG_SYNC & SIG_BIT(sig))	/* what is copied may fault; one that is sent is put off */
		__dune_own4(SYS_rt_sigprocmask, SIG_UNBLOCK, &sync, 0, 8);
	interrupt_guest(pc, sig, info, uc);
	pc->restoring = 0;
	pc->handling = 0;
}
