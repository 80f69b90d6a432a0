/* SPDX-License-Identifier: MIT */
/*
 * Signals in Dune mode.
 *
 * The program's actions live in a table here; Linux has __dune_host_signal()
 * for each signal that the program handles, with the program's SA_RESTART and
 * the like.  When it runs, Linux has decided everything: which signal, whether
 * the interrupted call restarts, what the mask was.  It builds the frame that
 * Linux would have built on the guest's stack, points the guest's registers at
 * the program's handler, and returns with the mask that the handler runs under.
 * So the thread's mask in the kernel is the program's own at any time.
 *
 * Code that cannot be interrupted (C on the host stack, the trap entry on its
 * IST stack) puts the signal off: siginfo and mask are kept, all but SIGSEGV
 * and SIGBUS is blocked, and the frame is built when that code is done.
 */
#ifndef LIBDUNE_SIGFRAME_H
#define LIBDUNE_SIGFRAME_H

#include <asm/processor-flags.h>
#include <signal.h>

#include "local.h"

#define SIG_BIT(sig)		(1ULL << ((sig) - 1))
#define SIG_SYNC		(SIG_BIT(SIGSEGV) | SIG_BIT(SIGBUS))
#define SIG_KERNEL_ONLY		(SIG_BIT(SIGKILL) | SIG_BIT(SIGSTOP))
#define NR_SIGNALS		64

#ifndef SA_RESTORER
#define SA_RESTORER		0x04000000
#endif
#define SS_AUTODISARM_BIT	((int32_t)(1U << 31))
#define RED_ZONE		128

#define USER_CS		0x33
#define USER_SS		0x2b
#define UC_SS_FLAGS	6	/* SIGCONTEXT_SS, STRICT_RESTORE_SS */

/* The kernel's struct ucontext (asm/ucontext.h, asm/sigcontext.h). */
struct dune_ucontext {
	uint64_t flags;
	uint64_t link;
	struct dune_altstack stack;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
	uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
};

/* What lies at a handler's stack pointer (struct rt_sigframe). */
struct dune_sigframe {
	uint64_t restorer;
	struct dune_ucontext uc;
	uint64_t info[DUNE_SIGINFO_SIZE / 8];
};

_Static_assert(sizeof(struct dune_ucontext) == 304, "ucontext");
_Static_assert(sizeof(struct dune_sigframe) == 440, "rt_sigframe");

/* Behind the FXSAVE area's registers: what the kernel says of the rest. */
struct dune_fpx {
	uint32_t magic1;
	uint32_t extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size;
	uint32_t padding[7];
};

#define FPX_OFFSET	464
#define FPX_MAGIC1	0x46505853U
#define FPX_MAGIC2	0x46505845U

/* sigframe.c */
struct dune_fpstate {
	const void *area;
	uint32_t size;		/* all of it, MAGIC2 included */
};

/*
 * Put a frame for @sig on the guest's stack and point its registers at the
 * handler in *@act.  @mask: the mask that sigreturn restores.  -1: the stack
 * cannot take it.
 */
int __dune_push_frame(struct dune_percpu *pc, int sig, const void *info,
		      const struct dune_ucontext *from, uint64_t mask,
		      const struct dune_sigaction *act, struct dune_fpstate fp);
void __dune_sigreturn(struct dune_percpu *pc);
bool __dune_on_altstack(const struct dune_percpu *pc, uint64_t sp);
struct dune_fpstate __dune_fpstate_of(const struct dune_ucontext *uc);
void __dune_fpstate_reset(struct dune_ucontext *uc);
void __dune_leave_gate(const struct dune_percpu *pc, struct dune_regs *r);
void __dune_fill_context(struct dune_ucontext *uc, const struct dune_regs *r);

/* signal.c */
long __dune_queue_signal(int sig, const void *info);
void __dune_force_info(struct dune_percpu *pc, const siginfo_t *info);

/* Neither SIG_DFL nor SIG_IGN. */
static inline bool is_handler(uint64_t handler)
{
	return handler > 1;
}

/* The program's registers as it would show them itself, into a frame of the host side's. */
void __dune_show_regs(const struct dune_percpu *pc, struct dune_ucontext *uc);

/* sigaction.c */
struct dune_sigaction __dune_action_take(struct dune_percpu *pc, int sig);
void __dune_action_reset(struct dune_sigtable *t, int sig);
void __dune_sigtable_freeze(struct dune_sigtable *t);

/* fatal.c */
bool __dune_dumps_core(int sig);
void __dune_default_action(struct dune_percpu *pc, int sig, const siginfo_t *info,
			   struct dune_ucontext *uc);
void __dune_default_outside(int sig, const siginfo_t *info, struct dune_ucontext *uc);
void __dune_sigactions_give_back(const struct dune_percpu *pc);

/* access_asm.S, host_asm.S */
void __dune_host_sigreturn(struct dune_ucontext *uc) __attribute__((noreturn));

#endif /* LIBDUNE_SIGFRAME_H */
