// SPDX-License-Identifier: MIT
/*
 * Exceptions: ring 3's become signals, as Linux has them; the monitor's own are failed
 * accesses to ring 3's memory.
 */
#include <libdune/cpu-x86.h>
#include <sys/mman.h>

#include "monitor.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define MAX_REFUSALS	100

/* Where copying ring 3's memory was refused, it goes on with -EFAULT. */
static bool copying_refused(struct dune_tf *tf)
{
	if (tf->rip != (uint64_t)copy_words_insn && tf->rip != (uint64_t)copy_bytes_insn &&
	    tf->rip != (uint64_t)copy_string_insn)
		return false;
	tf->rip = (uint64_t)copy_refused;
	return true;
}

static void own_fault(uint64_t addr, struct dune_tf *tf)
{
	if (copying_refused(tf))
		return;
	report("exception in the monitor: rip 0x%lx, address 0x%lx", tf->rip, addr);
	stop("the monitor failed");
}

static siginfo_t fault_info(int sig, int code, uint64_t addr)
{
	siginfo_t info;

	__builtin_memset(&info, 0, sizeof(info));
	info.si_signo = sig;
	info.si_code = code;
	info.si_addr = (void *)addr;
	return info;
}

/*
 * What Linux says of an access that it refuses; its own fault is not to be had, so it is
 * asked to make the page present.  @code 0: nothing, it works by now.
 */
static int refused_code(uint64_t page, uint64_t fec, int *sig)
{
	long ret = sys3(SYS_madvise, page, PAGE,
			fec & FEC_W ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
	uint8_t there;

	*sig = SIGSEGV;
	if (ret == -ENOMEM)
		return SEGV_MAPERR;
	if (ret == -EFAULT || ret == -EHWPOISON) {
		*sig = SIGBUS;
		return BUS_ADRERR;
	}
	if (!ret)
		return fec & FEC_I ? SEGV_ACCERR : 0;
	/* Not allowed, or a kernel before 5.14. */
	return sys3(SYS_mincore, page, PAGE, &there) == -ENOMEM ? SEGV_MAPERR : SEGV_ACCERR;
}

/* Linux and the module may disagree for ever: about device memory with odd attributes. */
static bool try_again(struct thread *t, uint64_t page)
{
	if (t->refused_at != page)
		t->refusals = 0;
	t->refused_at = page;
	return t->refusals++ < MAX_REFUSALS;
}

static void on_page_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	struct thread *t = this_thread();
	struct trap_words trap = { T_PGFLT, fec & (FEC_P | FEC_W | FEC_U | FEC_I), addr };
	siginfo_t info;
	int sig = SIGSEGV, code = SEGV_MAPERR;

	if (!(tf->cs & 3)) {
		own_fault(addr, tf);
		return;
	}
	if (tf->pad1 == FRAME_SIGNAL)	/* its handler runs first, and then this comes again */
		return;
	t->state = IN_MONITOR;
	if (!is_ring3s_object(addr)) {
		report("access to the monitor's memory at 0x%lx (rip 0x%lx) was refused", addr,
		       tf->rip);
	} else if (addr < USER_END) {
		code = refused_code(addr & ~(PAGE - 1), fec, &sig);
		if (!code && !try_again(t, addr & ~(PAGE - 1)))
			code = SEGV_ACCERR;
		if (code)
			t->refusals = 0;
	} else if (addr >> 12 == 0xffffffffff600UL) {
		report("a call of the vsyscall page (rip 0x%lx) was refused", tf->rip);
	}
	if (code) {
		info = fault_info(sig, code, addr);
		deliver_fault(t, tf, &info, &trap);
	}
	t->state = IN_RING3;
	deliver_pending(t, tf);
}

static int x87_code(uint32_t errors)
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

/* The vector registers are ring 3's. */
static int math_code(uint64_t vec)
{
	uint16_t control, status;
	uint32_t mxcsr;

	if (vec == T_SIMDERR) {
		__asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
		return x87_code(mxcsr & ~(mxcsr >> 7));
	}
	__asm__ volatile("fnstcw %0\n\tfnstsw %1" : "=m"(control), "=m"(status));
	return x87_code(status & ~(uint32_t)control);
}

/* Instructions that are no accident; NULL: any other. */
static const char *name_of(const uint8_t *b, uint64_t vec)
{
	if (vec == T_ILLOP && b[0] == 0x0f && b[1] == 0x01)
		return b[2] == 0xc1 ? "VMCALL" : b[2] == 0xd9 ? "VMMCALL" : NULL;
	if (b[0] == 0x0f && b[1] == 0x34)
		return "SYSENTER";
	if (vec != T_GPFLT)
		return NULL;
	if (b[0] == 0xcd)
		return "INT";
	if ((b[0] & 0xf4) == 0xe4 && (b[0] & 0x0f) >= 4 && (b[0] & 0xf0) == 0xe0)
		return "port I/O";
	if ((b[0] >= 0x6c && b[0] <= 0x6f))
		return "port I/O";
	if (b[0] == 0xfa || b[0] == 0xfb)
		return "CLI or STI";
	if (b[0] == 0xf4)
		return "HLT";
	if (b[0] == 0x0f && (b[1] == 0x30 || b[1] == 0x32))
		return "RDMSR or WRMSR";
	if (b[0] == 0x0f && (b[1] & 0xfc) == 0x20)
		return "MOV of a control or debug register";
	if (b[0] == 0x0f && b[1] <= 0x01)
		return "a descriptor-table or system instruction";
	return NULL;
}

static void tell(const struct dune_tf *tf, uint64_t vec)
{
	uint8_t bytes[3] = { 0 };
	const char *name;

	if ((vec != T_GPFLT && vec != T_ILLOP) || copy_in(bytes, tf->rip, sizeof(bytes)))
		return;
	name = name_of(bytes, vec);
	if (name)
		report("%s in ring 3 at 0x%lx was refused", name, tf->rip);
}

static void on_exception(struct dune_tf *tf, uint64_t vec)
{
	struct thread *t = this_thread();
	struct trap_words trap = { vec, tf->err, 0 };
	siginfo_t info;

	if (!(tf->cs & 3)) {
		/* An address that is not canonical is #GP, not #PF: SDM 3.3.7.1, APM 5.3.1. */
		if (vec == T_GPFLT && copying_refused(tf))
			return;
		report("exception %lu in the monitor: rip 0x%lx", vec, tf->rip);
		stop("the monitor failed");
	}
	if (tf->pad1 == FRAME_SIGNAL)
		return;
	t->state = IN_MONITOR;
	switch (vec) {
	case T_DIVIDE:
		info = fault_info(SIGFPE, FPE_INTDIV, tf->rip);
		break;
	case T_DEBUG:
		info = fault_info(SIGTRAP, TRAP_TRACE, tf->rip);
		break;
	case T_BRKPT:
		info = fault_info(SIGTRAP, SI_KERNEL, 0);
		break;
	case T_ILLOP:
		info = fault_info(SIGILL, ILL_ILLOPN, tf->rip);
		break;
	case T_SEGNP:
	case T_STACK:
		info = fault_info(SIGBUS, SI_KERNEL, 0);
		break;
	case T_FPERR:
	case T_SIMDERR:
		info = fault_info(SIGFPE, math_code(vec), tf->rip);
		break;
	case T_ALIGN:
		info = fault_info(SIGBUS, BUS_ADRALN, 0);
		break;
	default:
		info = fault_info(SIGSEGV, SI_KERNEL, 0);
	}
	tell(tf, vec);
	deliver_fault(t, tf, &info, &trap);
	t->state = IN_RING3;
	deliver_pending(t, tf);
}

/* A handler is not told its vector. */
#define VECTOR(n)	static void on_##n(struct dune_tf *tf) { on_exception(tf, n); }
VECTOR(0) VECTOR(1) VECTOR(3) VECTOR(4) VECTOR(5) VECTOR(6) VECTOR(7) VECTOR(10) VECTOR(11)
VECTOR(12) VECTOR(13) VECTOR(16) VECTOR(17) VECTOR(19)

static void on_interrupt(struct dune_tf *tf)
{
	if (tf->cs & 3)
		report("an interrupt vector in ring 3 (rip 0x%lx)", tf->rip);
}

void traps_init(void)
{
	static const struct { int vec; dune_intr_cb cb; } handlers[] = {
		{ 0, on_0 }, { 1, on_1 }, { 3, on_3 }, { 4, on_4 }, { 5, on_5 }, { 6, on_6 },
		{ 7, on_7 }, { 10, on_10 }, { 11, on_11 }, { 12, on_12 }, { 13, on_13 },
		{ 16, on_16 }, { 17, on_17 }, { 19, on_19 },
	};

	for (unsigned int i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++)
		dune_register_intr_handler(handlers[i].vec, handlers[i].cb);
	/* With a handler 128 is no system call. */
	for (int vec = 32; vec < 256; vec++)
		dune_register_intr_handler(vec, on_interrupt);
	dune_register_pgflt_handler(on_page_fault);
}
