// SPDX-License-Identifier: MIT
/*
 * Signal frames on the guest's stack: as Linux lays them out, so that unwinders,
 * siglongjmp() and programs that look into their ucontext find what they know.
 *
 * Lean code, on the host stack.
 */
#include <sys/syscall.h>

#include "sigframe.h"

/* What rt_sigreturn takes from a frame (FIX_EFLAGS), and the interrupt flag. */
#define FRAME_EFLAGS	0x50fd5ULL
#define UC_FP_XSTATE	1

#define FX_MXCSR	24
#define FX_SIZE		512
#define XSAVE_HEADER	64
#define FCW_INIT	0x37f
#define MXCSR_INIT	0x1f80

bool __dune_on_altstack(const struct dune_percpu *pc, uint64_t sp)
{
	const struct dune_altstack *a = &pc->altstack;

	return a->size && !(a->flags & SS_AUTODISARM_BIT) && sp > a->sp && sp - a->sp <= a->size;
}

struct dune_fpstate __dune_fpstate_of(const struct dune_ucontext *uc)
{
	const char *area = (const char *)uc->fpstate;
	const struct dune_fpx *x = (const struct dune_fpx *)(area + FPX_OFFSET);

	if (!area)
		return (struct dune_fpstate) { NULL, 0 };
	return (struct dune_fpstate) { area, x->magic1 == FPX_MAGIC1 ? x->extended_size : FX_SIZE };
}

/* A handler starts with the vector registers' initial state (SDM 13.6). */
void __dune_fpstate_reset(struct dune_ucontext *uc)
{
	struct dune_fpstate fp = __dune_fpstate_of(uc);
	char *area = (char *)uc->fpstate;

	if (!area)
		return;
	__dune_clear(area, FPX_OFFSET);
	*(uint16_t *)area = FCW_INIT;
	*(uint32_t *)(area + FX_MXCSR) = MXCSR_INIT;
	if (fp.size > FX_SIZE)
		__dune_clear(area + FX_SIZE, XSAVE_HEADER);
}

/*
 * The stack pointer that the program sees: the gate uses no stack, and where it
 * came from is what Linux would show.
 */
void __dune_leave_gate(const struct dune_percpu *pc, struct dune_regs *r)
{
	if (r->rip == pc->gate_ret) {
		r->rip = r->rcx;
		r->rflags = r->r11;
	} else if (r->rip == pc->gate_ret - DUNE_HYPERCALL_LEN) {
		r->rip = r->rcx - DUNE_SYSCALL_LEN;
		r->rflags = r->r11;
	}
}

void __dune_fill_context(struct dune_ucontext *uc, const struct dune_regs *r)
{
	uc->r8 = r->r8;
	uc->r9 = r->r9;
	uc->r10 = r->r10;
	uc->r11 = r->r11;
	uc->r12 = r->r12;
	uc->r13 = r->r13;
	uc->r14 = r->r14;
	uc->r15 = r->r15;
	uc->rdi = r->rdi;
	uc->rsi = r->rsi;
	uc->rbp = r->rbp;
	uc->rbx = r->rbx;
	uc->rdx = r->rdx;
	uc->rax = r->rax;
	uc->rcx = r->rcx;
	uc->rsp = r->rsp;
	uc->rip = r->rip;
	uc->rflags = r->rflags;
}

void __dune_show_regs(const struct dune_percpu *pc, struct dune_ucontext *uc)
{
	struct dune_regs r;

	__dune_copy(&r, &pc->run->regs, sizeof(r));
	__dune_leave_gate(pc, &r);
	__dune_fill_context(uc, &r);
	uc->flags = UC_SS_FLAGS | (uc->flags & UC_FP_XSTATE);
	uc->link = 0;
	uc->stack = (struct dune_altstack) { .flags = SS_DISABLE };
	uc->cs = USER_CS;
	uc->ss = USER_SS;
}

static void take(struct dune_regs *r, const struct dune_ucontext *uc)
{
	r->r8 = uc->r8;
	r->r9 = uc->r9;
	r->r10 = uc->r10;
	r->r11 = uc->r11;
	r->r12 = uc->r12;
	r->r13 = uc->r13;
	r->r14 = uc->r14;
	r->r15 = uc->r15;
	r->rdi = uc->rdi;
	r->rsi = uc->rsi;
	r->rbp = uc->rbp;
	r->rbx = uc->rbx;
	r->rdx = uc->rdx;
	r->rax = uc->rax;
	r->rcx = uc->rcx;
	r->rsp = uc->rsp;
	r->rip = uc->rip;
	r->rflags = (r->rflags & ~(FRAME_EFLAGS | X86_EFLAGS_IF)) |
		    (uc->rflags & (FRAME_EFLAGS | X86_EFLAGS_IF));
}

static void trap_words(struct dune_percpu *pc, int sig, struct dune_ucontext *uc)
{
	bool page_fault = pc->trap.sig == SIGSEGV && pc->trap.vec == T_PF;

	if (pc->trap.sig != sig && !(page_fault && sig == SIGBUS)) {
		/* A write that was made again outside. */
		if (uc->trapno == T_PF && uc->cr2 == pc->replay_hva)
			uc->err |= pc->trap.err & FEC_W;
		return;
	}
	uc->trapno = pc->trap.vec;
	uc->err = pc->trap.err;
	uc->cr2 = pc->trap.cr2;
	pc->trap.sig = 0;
}

/* Where the frame goes: below the red zone or on the alternate stack.  0: it overflows. */
static uint64_t frame_address(const struct dune_percpu *pc, uint64_t sp, bool onstack,
			      uint32_t fp_size, uint64_t *fpstate)
{
	const struct dune_altstack *a = &pc->altstack;
	bool on = __dune_on_altstack(pc, sp);

	sp -= RED_ZONE;
	if (onstack && a->size && !on) {
		sp = a->sp + a->size;
		on = true;
	}
	sp = (sp - fp_size) & ~63ULL;
	*fpstate = sp;
	sp = ((sp - sizeof(struct dune_sigframe)) & ~15ULL) - 8;
	return on && (sp <= a->sp || sp - a->sp > a->size) ? 0 : sp;
}

int __dune_push_frame(struct dune_percpu *pc, int sig, const void *info,
		      const struct dune_ucontext *from, uint64_t mask,
		      const struct dune_sigaction *act, struct dune_fpstate fp)
{
	struct dune_regs *r = &pc->run->regs;
	struct dune_sigframe f;
	uint64_t fpstate, sp;

	if (!(act->flags & SA_RESTORER))
		return -1;
	/* A fault that was to be injected comes again after the handler. */
	pc->run->inject.valid = 0;
	__dune_leave_gate(pc, r);

	sp = frame_address(pc, r->rsp, act->flags & SA_ONSTACK, fp.size, &fpstate);
	if (!sp)
		return -1;
	if (from)
		__dune_copy(&f.uc, from, sizeof(f.uc));
	else
		__dune_clear(&f.uc, sizeof(f.uc));
	__dune_copy(f.info, info, sizeof(f.info));
	f.restorer = act->restorer;
	f.uc.flags = UC_SS_FLAGS | (fp.size > FX_SIZE ? UC_FP_XSTATE : 0);
	f.uc.link = 0;
	f.uc.stack = pc->altstack;
	f.uc.cs = USER_CS;
	f.uc.ss = USER_SS;
	f.uc.fpstate = fp.area ? fpstate : 0;
	f.uc.sigmask = mask;
	f.uc.oldmask = mask;
	__dune_fill_context(&f.uc, r);
	trap_words(pc, sig, &f.uc);

	if (__dune_copy_user((void *)fpstate, fp.area, fp.size) ||
	    __dune_copy_user((void *)sp, &f, sizeof(f)))
		return -1;

	if (pc->altstack.flags & SS_AUTODISARM_BIT)
		pc->altstack = (struct dune_altstack) { .flags = SS_DISABLE };
	r->rip = act->handler;
	r->rsp = sp;
	r->rdi = (uint64_t)sig;
	r->rsi = sp + offsetof(struct dune_sigframe, info);
	r->rdx = sp + offsetof(struct dune_sigframe, uc);
	r->rax = 0;
	r->rflags &= ~(X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_RF);
	return 0;
}

static bool is_canonical(uint64_t addr)
{
	return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

/* sigaltstack() with the frame's stack_t: errors but EFAULT mean nothing changes. */
static void restore_altstack(struct dune_percpu *pc, const struct dune_altstack *a)
{
	int32_t mode = a->flags & ~SS_AUTODISARM_BIT;

	if (__dune_on_altstack(pc, pc->run->regs.rsp))
		return;
	if (mode == SS_DISABLE)
		pc->altstack = (struct dune_altstack) { .flags = SS_DISABLE };
	else if ((mode == 0 || mode == SS_ONSTACK) && a->size >= 2048)
		pc->altstack = (struct dune_altstack) {
			.sp = a->sp, .size = a->size, .flags = a->flags,
		};
}

/* Linux's own IRET to such a frame is refused: the fault is the program's. */
static void cannot_return(struct dune_percpu *pc, uint64_t err)
{
	pc->trap = (struct dune_trapinfo) { .sig = SIGSEGV, .vec = 13, .err = err };
	__dune_force_signal(pc, SIGSEGV, SI_KERNEL, 0);
}

/*
 * rt_sigreturn: the guest's registers come from its frame; mask and vector
 * registers are Linux's to restore, from a frame of the host side's that points
 * to the program's vector state.
 */
void __dune_sigreturn(struct dune_percpu *pc)
{
	struct dune_sigframe f;
	struct dune_ucontext *uc = &f.uc;
	uint64_t fpstate, mask;
	uint16_t cs;

	if (__dune_copy_user(uc, (const void *)pc->run->regs.rsp, sizeof(*uc))) {
		__dune_force_signal(pc, SIGSEGV, SI_KERNEL, 0);
		return;
	}
	restore_altstack(pc, &uc->stack);
	take(&pc->run->regs, uc);

	fpstate = uc->fpstate;
	cs = uc->cs | 3;
	mask = uc->sigmask & ~SIG_KERNEL_ONLY;
	__dune_clear(&f, sizeof(f));
	uc->flags = UC_SS_FLAGS;
	uc->stack.flags = SS_DISABLE;
	uc->cs = USER_CS;
	uc->ss = USER_SS;
	uc->rflags = X86_EFLAGS_IF | 2;
	uc->rip = (uint64_t)__dune_host_resume;
	uc->rsp = pc->host_rsp;
	uc->rbx = (uint64_t)pc;
	uc->r12 = (uint64_t)pc->run;
	uc->fpstate = fpstate;

	/* From here on a signal that is put off finds the new mask here. */
	pc->restore_mask = mask;
	__atomic_store_n(&pc->restoring, 1, __ATOMIC_RELEASE);
	if (cs != USER_CS)
		cannot_return(pc, cs & ~3);
	else if (!is_canonical(pc->run->regs.rip))
		cannot_return(pc, 0);
	mask = pc->restore_mask;
	if (__atomic_load_n(&pc->deferred, __ATOMIC_ACQUIRE)) {
		pc->deferred_mask = mask;
		mask |= ~SIG_SYNC;
	}
	uc->sigmask = mask;
	__dune_host_sigreturn(uc);
}
