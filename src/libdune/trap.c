// SPDX-License-Identifier: MIT
/*
 * Exceptions in Dune mode: who handles them, and what happens if nobody does.
 *
 * Lean code: parts of it run on the IST stack, before the program's vector
 * registers are saved.
 */
#include <errno.h>

#include "local.h"


/* Plain words, written and read whole: handlers may change at any time. */
dune_intr_cb __dune_intr_handler[256];
static dune_pgflt_cb pgflt_handler;

DUNE_EXPORT int dune_register_intr_handler(int vec, dune_intr_cb cb)
{
	if (vec < 0 || vec > 255)
		return -EINVAL;
	__atomic_store_n(&__dune_intr_handler[vec], cb, __ATOMIC_RELEASE);
	return 0;
}

DUNE_EXPORT void dune_register_pgflt_handler(dune_pgflt_cb cb)
{
	__atomic_store_n(&pgflt_handler, cb, __ATOMIC_RELEASE);
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
 * A not-present fault, on the IST stack.  Not 0: it was about a GiB that had
 * no window yet, try the access again.
 */
long __dune_window_fault(uint64_t addr, uint64_t err)
{
	struct dune_percpu *pc = ist_percpu();

	if (pc->injected) {	/* the mm refuses: the handler's business */
		pc->injected = 0;
		return 0;
	}
	if (err & FEC_P || addr >= USER_END)
		return 0;
	if (__dune_gib_mapped(addr))	/* perhaps since, by another thread */
		return __dune_va_present(addr);
	if (!__dune_map_full && __dune_has_pgflt_handler() && !__dune_gib_held(addr))
		return 0;
	return __dune_map_gib(addr) == 0;
}

/* Does the program handle @vec itself? */
bool __dune_has_handler(uint64_t vec)
{
	return vec == T_PF ? __dune_has_pgflt_handler() :
	       vec < 256 && __atomic_load_n(&__dune_intr_handler[vec], __ATOMIC_ACQUIRE);
}

/*
 * On the IST stack: can the interrupted stack at @rsp take a trap frame?  The
 * frame ends 128 bytes below and is less than 512 bytes long.  Remembers a
 * GiB that can, for the entry code's quick check.
 */
long __dune_stack_check(struct dune_percpu *pc, uint64_t rsp)
{
	uint64_t low = rsp - 512;

	if (rsp >= USER_END || low >= USER_END)
		return 0;
	if (__dune_map_gib(low) || __dune_map_gib(rsp) ||
	    !__dune_va_present(low) || !__dune_va_present(rsp))
		return 0;
	if (low >> GIB_SHIFT == rsp >> GIB_SHIFT)
		pc->stack_gib = rsp >> GIB_SHIFT;
	return 1;
}

/* On the interrupted stack, vector registers saved, IF as it was. */
void __dune_trap(struct dune_tf *tf, uint64_t vec, uint64_t cr2)
{
	dune_intr_cb cb;
	dune_pgflt_cb pgflt;

	if (vec == DUNE_VEC_NONE)
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
	__dune_hypercall(DUNE_ASK_TRAP, (uint64_t)tf, vec, cr2);
}
