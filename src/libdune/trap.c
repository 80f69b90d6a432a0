// SPDX-License-Identifier: MIT
/*
 * Exceptions in Dune mode: who handles them, and what happens if nobody does.
 *
 * Lean code: parts of it run on the IST stack, before the program's vector
 * registers are saved.
 */
#include <errno.h>
#include <signal.h>

#include "local.h"

#define T_DB		1
#define T_DF		8
#define NR_EXCEPTIONS	32
#define RED_ZONE	128
#define RFLAGS_IF	0x200

/* Plain words, written and read whole: handlers may change at any time. */
static dune_pgflt_cb pgflt_handler;
dune_intr_cb __dune_intr_handler[256];

/*
 * What the short way of trap_asm.S calls.  For a page fault that is always
 * something; for the others only what the program registered.
 */
static void page_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf);
static bool watches_insns;

dune_intr_cb __dune_intr_call[NR_EXCEPTIONS];
dune_pgflt_cb __dune_pgflt_call = page_fault;

static void page_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	if (__dune_window_fault(addr, fec))
		return;
	__dune_trap(tf, T_PF, addr, NULL);
}

/* Of a process that called dune_trap_insn(). */
static void general_protection(struct dune_tf *tf)
{
	__dune_trap(tf, T_GP, 0, NULL);
}

void __dune_insn_watch(void)
{
	__atomic_store_n(&watches_insns, true, __ATOMIC_RELEASE);
	__atomic_store_n(&__dune_intr_call[T_GP], general_protection, __ATOMIC_RELEASE);
}

/* The handler for the vector wins over the one for page faults. */
static void choose_pgflt_call(void)
{
	dune_pgflt_cb cb = __atomic_load_n(&pgflt_handler, __ATOMIC_ACQUIRE);

	if (!cb || __atomic_load_n(&__dune_intr_handler[T_PF], __ATOMIC_ACQUIRE))
		cb = page_fault;
	__atomic_store_n(&__dune_pgflt_call, cb, __ATOMIC_RELEASE);
}

DUNE_EXPORT int dune_register_intr_handler(int vec, dune_intr_cb cb)
{
	if (vec < 0 || vec > 255)
		return -EINVAL;
	__atomic_store_n(&__dune_intr_handler[vec], cb, __ATOMIC_RELEASE);
	if (vec < NR_EXCEPTIONS && !(vec == T_GP && watches_insns))
		__atomic_store_n(&__dune_intr_call[vec], cb, __ATOMIC_RELEASE);
	choose_pgflt_call();
	return 0;
}

DUNE_EXPORT void dune_register_pgflt_handler(dune_pgflt_cb cb)
{
	__atomic_store_n(&pgflt_handler, cb, __ATOMIC_RELEASE);
	choose_pgflt_call();
}

bool __dune_has_pgflt_handler(void)
{
	return __atomic_load_n(&__dune_intr_handler[T_PF], __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&pgflt_handler, __ATOMIC_ACQUIRE);
}

static struct dune_percpu *ist_percpu(void)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	return (struct dune_percpu *)(sp & ~(uintptr_t)(DUNE_BLOCK_ALIGN - 1));
}

/*
 * A fault on something not present or with a reserved bit, on the IST stack.  Not 0:
 * it was about a GiB that had no window yet, try the access again.
 */
long __dune_window_fault(uint64_t addr, uint64_t err)
{
	if (!(err & FEC_RSV) && __dune_has_pgflt_handler())
		return 0;	/* the program's, or one that fault.c injected for it */
	return __dune_gib_fault(addr, err);
}

/* Does the program handle @vec itself? */
bool __dune_has_handler(uint64_t vec)
{
	return vec == T_PF ? __dune_has_pgflt_handler() :
	       vec < 256 && __atomic_load_n(&__dune_intr_handler[vec], __ATOMIC_ACQUIRE);
}

/*
 * Can the stack below @top take a frame of @size bytes, less than a page?  The tables allow
 * whole GiBs; whether there is memory Linux knows, which is asked when the pages are others.
 */
static bool stack_takes(struct dune_percpu *pc, uint64_t top, uint64_t size)
{
	uint64_t low = top - size;

	if (top >= USER_END || low >= USER_END)
		return false;
	if (PPN(low) >= pc->stack_first && PPN(top) <= pc->stack_last)
		return true;
	if (__dune_map_gib(low) || __dune_map_gib(top) ||
	    !__dune_va_present(low) || !__dune_va_present(top) ||
	    __dune_hypercall(DUNE_ASK_STACK, low, top, 0))
		return false;
	pc->stack_first = PPN(low);
	pc->stack_last = PPN(top);
	return true;
}

static bool on_ist(const struct dune_percpu *pc, uint64_t rsp)
{
	uint64_t offset = rsp - (uint64_t)pc;

	return offset > DUNE_IST_BOTTOM && offset <= DUNE_IST3_TOP;
}

/* Where code goes on that stands at @rip on an IST stack: at the comparison again. */
uint64_t __dune_trap_recheck(uint64_t rip)
{
	if (rip > (uint64_t)__dune_trap_check_pf && rip < (uint64_t)__dune_trap_checked_pf)
		return (uint64_t)__dune_trap_check_pf;
	if (rip > (uint64_t)__dune_trap_check_other && rip < (uint64_t)__dune_trap_checked_other)
		return (uint64_t)__dune_trap_check_other;
	return rip;
}

/*
 * The way out, on an IST stack: where the code is that goes on, as far as anybody can
 * tell.  NULL: not there.
 */
const struct dune_tf *__dune_trap_returning(struct dune_percpu *pc, uint64_t rip, uint64_t rsp)
{
	uint64_t first = (uint64_t)pc + DUNE_IST_BOTTOM, top = (uint64_t)pc + DUNE_IST3_TOP;

	if (rip < (uint64_t)__dune_trap_return || rip >= (uint64_t)__dune_trap_return_end ||
	    !on_ist(pc, rsp))
		return NULL;
	if (rsp <= (uint64_t)pc + DUNE_IST1_TOP) {
		top = first + ((rsp - first + DUNE_LEVEL_SIZE - 1) & ~(DUNE_LEVEL_SIZE - 1ULL));
		pc->tss.ist[0] = top;
	}
	return (const struct dune_tf *)(top - TF_SIZE);
}

static bool is_interrupt(uint64_t vec)
{
	return vec >= NR_EXCEPTIONS && vec < DUNE_VEC_NONE;
}

/* An interrupt of code on an IST stack: that code finds it when it is done. */
static void put_off_interrupt(struct dune_percpu *pc, struct dune_tf *tf, uint64_t vec)
{
	pc->irq_waits[vec / 64] |= 1ULL << vec % 64;
	pc->irqs = 1;
	pc->floor = ~0ULL;
	tf->rip = __dune_trap_recheck(tf->rip);
}

/*
 * The short way found no stack for the handler, and the exception that this raised found
 * none either: the first of them, on the levels above @tf.
 */
static struct dune_tf *first_of_nest(struct dune_percpu *pc, struct dune_tf *tf, uint64_t *what)
{
	const uint64_t top = (uint64_t)pc + DUNE_IST1_TOP;

	while ((uint64_t)tf + DUNE_LEVEL_SIZE < top &&
	       (tf->rip == (uint64_t)__dune_trap_call_pf ||
		tf->rip == (uint64_t)__dune_trap_call_other)) {
		what[0] = tf->rip == (uint64_t)__dune_trap_call_pf ? T_PF : tf->r12;
		what[1] = tf->rdi;
		tf = (struct dune_tf *)((uint64_t)tf + DUNE_LEVEL_SIZE);
		pc->tss.ist[0] = (uint64_t)tf + TF_SIZE;
	}
	return tf;
}

static struct dune_trap_way go_on(void)
{
	return (struct dune_trap_way){ NULL, NULL };
}

/*
 * On the IST stack.  @tf: the frame; what[0]: the vector, which may change; what[1]:
 * CR2 of a page fault.  Moves the frame to the stack that the handler will run on.
 */
struct dune_trap_way __dune_trap_long(struct dune_tf *tf, uint64_t *what)
{
	struct dune_percpu *pc = ist_percpu();
	const struct dune_tf *returning = NULL;
	bool from_user, interrupted = false;
	uint64_t top, to;

	if ((uint64_t)tf < (uint64_t)pc + DUNE_IST1_TOP)
		pc->tss.ist[0] = (uint64_t)tf + TF_SIZE;
	if (what[0] == DUNE_VEC_IPI)
		__dune_apic_end();
	if (on_ist(pc, tf->rsp) && !(tf->cs & 3)) {
		if (is_interrupt(what[0]))
			returning = __dune_trap_returning(pc, tf->rip, tf->rsp);
		if (returning) {
			__dune_copy(tf, returning, sizeof(*tf));
		} else if (is_interrupt(what[0])) {
			put_off_interrupt(pc, tf, what[0]);
			return go_on();
		} else {
			interrupted = true;
		}
	}
	if (what[0] == T_DB && __dune_ring_stepped(tf))
		return go_on();
	pc->floor = pc->floor_normal;
	from_user = __dune_ring_leave(pc, tf);
	if (what[0] == T_PF && (int32_t)tf->err != DUNE_ERR_INT &&
	    __dune_window_fault(what[1], tf->err)) {
		if (!pc->deferred && !pc->irqs && !from_user)
			return go_on();
		what[0] = DUNE_VEC_NONE;
	}
	if (what[0] == DUNE_VEC_KICK)
		what[0] = DUNE_VEC_NONE;

	top = from_user ? pc->ring0_rsp : tf->rsp - RED_ZONE;
	to = (top - sizeof(*tf)) & ~15ULL;
	if ((what[0] == T_DF && (int32_t)tf->err != DUNE_ERR_INT) || pc->moving || interrupted || !top ||
	    !stack_takes(pc, top, 512)) {
		pc->moving |= interrupted;
		if (!interrupted && what[0] != T_DF)
			tf = first_of_nest(pc, tf, what);
		__dune_hypercall(DUNE_ASK_LOST, (uint64_t)tf, what[0], what[1]);
	}
	pc->moving = 1;
	__dune_copy((void *)to, tf, sizeof(*tf));
	pc->moving = 0;
	return (struct dune_trap_way){ (struct dune_tf *)to,
				       (void *)((to - __dune_fpu_size) & ~63ULL) };
}

static void interrupt(struct dune_percpu *pc, struct dune_tf *tf, unsigned int vec)
{
	dune_intr_cb cb = __atomic_load_n(&__dune_intr_handler[vec], __ATOMIC_ACQUIRE);

	if (vec == DUNE_VEC_IPI && __dune_apic_used)
		__dune_apic_interrupt(pc, tf);
	else if (cb)
		cb(tf);
}

/*
 * The interrupts that were put off, in the order of their vectors, highest first.  They
 * leave IF as it was to the exception that comes after them.
 */
static void late_interrupts(struct dune_percpu *pc, struct dune_tf *tf)
{
	__atomic_store_n(&pc->irqs, 0, __ATOMIC_RELEASE);
	for (int i = 3; i >= 0; i--) {
		uint64_t waits = __atomic_exchange_n(&pc->irq_waits[i], 0, __ATOMIC_ACQ_REL);

		while (waits) {
			int bit = 63 - __builtin_clzl(waits);

			waits &= ~(1ULL << bit);
			interrupt(pc, tf, (unsigned int)(i * 64 + bit));
		}
	}
	if (tf->rflags & RFLAGS_IF)
		__asm__ volatile("sti" : : : "memory");
}

/*
 * On the handler's stack, vector registers saved, IF as it was.  @pc: NULL on the
 * short way, where no interrupt can have been put off.
 */
void __dune_trap(struct dune_tf *tf, uint64_t vec, uint64_t cr2, struct dune_percpu *pc)
{
	dune_intr_cb cb;
	dune_pgflt_cb pgflt;

	if (pc && pc->irqs)
		late_interrupts(pc, tf);
	if (vec == DUNE_VEC_NONE)
		return;
	if (vec == DUNE_VEC_IPI && __dune_apic_used) {
		__dune_apic_interrupt(pc, tf);
		return;
	}
	if (vec == T_GP && watches_insns && __dune_insn_fault(tf))
		return;
	cb = __atomic_load_n(&__dune_intr_handler[vec], __ATOMIC_ACQUIRE);
	if (cb) {
		cb(tf);
		return;
	}
	pgflt = __atomic_load_n(&pgflt_handler, __ATOMIC_ACQUIRE);
	if (vec == T_PF && pgflt) {
		pgflt(cr2, tf->err, tf);
		return;
	}
	if (tf->cs & 3) {
		__dune_message("exception %lu (error code 0x%lx) in ring 3 at rip 0x%lx, and no handler (CR2 0x%lx)\n",
			       vec, (unsigned long)tf->err, tf->rip, cr2);
		__dune_raise(SIGSEGV, SI_KERNEL, 0);
	}
	__dune_hypercall(DUNE_ASK_TRAP, (uint64_t)tf, vec, cr2);
}
