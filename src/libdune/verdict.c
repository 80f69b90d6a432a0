// SPDX-License-Identifier: MIT
/*
 * Exceptions in Dune mode that the program does not handle itself: they become
 * the signal that Linux has for them (arch/x86/kernel/traps.c).
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "local.h"

#define T_DB		1
#define T_UD		6
#define T_DF		8
#define T_MF		16
#define T_XM		19
#define WITH_ERROR	(1ULL << 8 | 0x1fULL << 10 | 1ULL << 17 | 1ULL << 21 | 3ULL << 29)

#define INT_LEN		2

struct verdict {
	int sig;
	int code;
	bool at_rip;		/* si_addr is the instruction */
};

/* FPU errors by priority: invalid, zero divide, overflow, underflow or denormal, precision. */
static int fpe_code(uint32_t errors)
{
	if (errors & 0x01)
		return FPE_FLTINV;
	if (errors & 0x04)
		return FPE_FLTDIV;
	if (errors & 0x08)
		return FPE_FLTOVF;
	if (errors & 0x12)
		return FPE_FLTUND;
	return FPE_FLTRES;
}

/* The unmasked errors; the program's vector registers are live. */
static int x87_code(void)
{
	uint16_t control, status;

	__asm__ volatile("fnstcw %0\n\tfnstsw %1" : "=m"(control), "=m"(status));
	return fpe_code(status & ~(uint32_t)control);
}

static int sse_code(void)
{
	uint32_t mxcsr;

	__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
	return fpe_code(mxcsr & ~(mxcsr >> 7));
}

static struct verdict verdict(uint64_t vec)
{
	switch (vec) {
	case 0:
		return (struct verdict){ SIGFPE, FPE_INTDIV, true };
	case T_DB:
		return (struct verdict){ SIGTRAP, TRAP_TRACE, true };
	case 3:
		return (struct verdict){ SIGTRAP, SI_KERNEL, false };
	case 6:
		return (struct verdict){ SIGILL, ILL_ILLOPN, true };
	case 11:
	case 12:
		return (struct verdict){ SIGBUS, SI_KERNEL, false };
	case T_MF:
		return (struct verdict){ SIGFPE, x87_code(), true };
	case 17:
		return (struct verdict){ SIGBUS, BUS_ADRALN, false };
	case T_XM:
		return (struct verdict){ SIGFPE, sse_code(), true };
	default:
		return (struct verdict){ SIGSEGV, SI_KERNEL, false };
	}
}

/* The guest is where *tf says. */
void __dune_take_frame(struct dune_regs *r, const struct dune_tf *tf)
{
	r->rdi = tf->rdi;
	r->rsi = tf->rsi;
	r->rdx = tf->rdx;
	r->rcx = tf->rcx;
	r->r8 = tf->r8;
	r->r9 = tf->r9;
	r->r10 = tf->r10;
	r->r11 = tf->r11;
	r->rbx = tf->rbx;
	r->rbp = tf->rbp;
	r->r12 = tf->r12;
	r->r13 = tf->r13;
	r->r14 = tf->r14;
	r->r15 = tf->r15;
	r->rax = tf->rax;
	r->rip = tf->rip;
	r->rflags = tf->rflags;
	r->rsp = tf->rsp;
}

#define VSYSCALL	0xffffffffff600000ULL

/*
 * A call of the vsyscall page, which Linux emulates where it is mapped.  The calls
 * exist as system calls, with the same arguments; a bad one is a fault here.
 */
static bool emulate_vsyscall(struct dune_percpu *pc)
{
	static const uint16_t nrs[] = { SYS_gettimeofday, SYS_time, SYS_getcpu };
	struct dune_regs *r = &pc->run->regs;
	uint64_t which = (r->rip - VSYSCALL) >> 10, ret_to, rax = r->rax, rdx = r->rdx;

	if (!__dune_has_vsyscall || r->rip & 0x3ff || which > 2 ||
	    __dune_copy_user(&ret_to, (const void *)r->rsp, 8))
		return false;
	r->rax = nrs[which];
	if (which == 2)
		r->rdx = 0;
	r->rax = (uint64_t)__dune_forward(r);
	r->rdx = rdx;
	if ((long)r->rax == -EFAULT) {
		r->rax = rax;
		__dune_force_signal(pc, SIGSEGV, SEGV_MAPERR, r->rdi);
		return true;
	}
	r->rip = ret_to;
	r->rsp += 8;
	return true;
}

static void page_fault(struct dune_percpu *pc, uint32_t err, uint64_t cr2)
{
	int code = err & FEC_P && cr2 < USER_END ? SEGV_ACCERR : SEGV_MAPERR;

	__dune_force_signal(pc, SIGSEGV, code, cr2);
}

/* The guest's registers are those at the exception. */
static void become_signal(struct dune_percpu *pc, uint64_t vec, uint32_t err, uint64_t cr2)
{
	struct verdict v = verdict(vec);

	/* What an ordinary process would have: faults come from ring 3. */
	pc->trap = (struct dune_trapinfo) {
		.sig = v.sig,
		.vec = vec,
		.err = vec != T_PF ? err : err | FEC_U | (cr2 < USER_END ? 0 : FEC_P),
		.cr2 = cr2,
	};
	if (vec == T_PF)
		page_fault(pc, err, cr2);
	else
		__dune_force_signal(pc, v.sig, v.code, v.at_rip ? pc->run->regs.rip : 0);
}

/*
 * INT with a vector that no program may use, where it cannot be anything else: the CPU
 * raises no such exception, or not without an error code.
 */
static bool is_int(uint64_t vec, const struct dune_tf *tf)
{
	const uint64_t faults = 1ULL << 0 | 1ULL << 1 | 1ULL << 3 | 1ULL << 4 | 1ULL << 5 |
				1ULL << 6 | 1ULL << 7 | 1ULL << T_MF | 1ULL << T_XM;

	if (vec >= 32)
		return true;
	return WITH_ERROR >> vec & 1 ? (int32_t)tf->err == DUNE_ERR_INT : !(faults >> vec & 1);
}

/* The trap frame that rdi points to: the guest is there from now on. */
static struct dune_tf frame_of(struct dune_regs *r)
{
	struct dune_tf tf;

	if (__dune_copy_user(&tf, (const void *)r->rdi, sizeof(tf)))
		__dune_raise(SIGSEGV, SI_KERNEL, 0);
	__dune_take_frame(r, &tf);
	return tf;
}

/* DUNE_ASK_TRAP: rdi is the trap frame, rsi the vector, rdx CR2. */
void __dune_host_trap(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;
	uint64_t vec = r->rsi, cr2 = r->rdx;
	struct dune_tf tf = frame_of(r);

	if (is_int(vec, &tf)) {		/* refused, as by a gate that is the kernel's */
		r->rip -= INT_LEN;
		pc->trap = (struct dune_trapinfo) {
			.sig = SIGSEGV, .vec = T_GP, .err = (uint32_t)vec << 3 | 2,
		};
		__dune_force_signal(pc, SIGSEGV, SI_KERNEL, 0);
		return;
	}
	/* Bochs steps into the gate, although SFMASK clears TF; Linux, too, goes on then. */
	if (vec == T_DB && r->rip == pc->gate_ret - DUNE_HYPERCALL_LEN)
		return;
	if (vec == T_PF && cr2 == r->rip && (cr2 & ~0xfffULL) == VSYSCALL && emulate_vsyscall(pc))
		return;
	if (vec == T_UD && __dune_foreign_hypercall(pc))
		return;
	become_signal(pc, vec, tf.err, cr2);
}

/*
 * DUNE_ASK_LOST: a double fault, an exception of the entry code itself, or one of a
 * program whose stack cannot take its frame.  The last is a signal as ever, which may
 * find an alternate stack, unless the program wants the exception.
 */
void __dune_host_lost(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;
	uint64_t vec = r->rsi, cr2 = r->rdx;
	struct dune_tf tf = frame_of(r);

	if (vec != T_DF && !pc->moving && !(tf.cs & 3) && !__dune_has_handler(vec)) {
		become_signal(pc, vec, tf.err, cr2);
		return;
	}
	__dune_message("exception %lu (error code 0x%lx) at rip 0x%lx, and %s (rsp 0x%lx, CR2 0x%lx)\n",
		       (unsigned long)vec, (unsigned long)tf.err, (unsigned long)tf.rip,
		       vec == T_DF ? "the first exception could not be delivered" :
		       pc->moving ? "it hit the entry code itself" :
		       "the stack cannot take its frame",
		       (unsigned long)tf.rsp, (unsigned long)cr2);
	__dune_raise(SIGSEGV, SI_KERNEL, 0);
}
