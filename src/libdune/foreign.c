// SPDX-License-Identifier: MIT
/*
 * The other vendor's hypercall instruction in the program: VMCALL on AMD, VMMCALL on
 * Intel.  Programs written for one make system calls by it; the CPU says #UD.
 *
 * Lean code, on the host stack.
 */
#include <sys/syscall.h>

#include "local.h"

#define RED_ZONE	128

/* Those that want the caller's own stack pointer, or return on another stack. */
static bool wants_stack(uint64_t nr)
{
	return nr == SYS_vfork || nr == SYS_clone || nr == SYS_clone3 || nr == SYS_rt_sigreturn;
}

/*
 * The guest's registers are those at the exception #UD.  True: it was such an
 * instruction, and the guest makes the call next, at a hypercall of ours that returns
 * behind it.  So a signal finds it at a hypercall like any other.
 */
bool __dune_foreign_hypercall(struct dune_percpu *pc)
{
	static const uint8_t other[2][DUNE_HYPERCALL_LEN] = {
		{ 0x0f, 0x01, 0xd9 },	/* VMMCALL */
		{ 0x0f, 0x01, 0xc1 },	/* VMCALL */
	};
	struct dune_regs *r = &pc->run->regs;
	const uint8_t *want = other[__dune_is_svm];
	uint8_t insn[DUNE_HYPERCALL_LEN];
	uint64_t next = r->rip + DUNE_HYPERCALL_LEN, slot = r->rsp - RED_ZONE - 8;

	if (__dune_copy_user(insn, (const void *)r->rip, sizeof(insn)) ||
	    insn[0] != want[0] || insn[1] != want[1] || insn[2] != want[2])
		return false;
	if (wants_stack(r->rax)) {
		r->rip = next;
		__dune_host_call(pc);
		return true;
	}
	if (__dune_copy_user((void *)slot, &next, sizeof(next)))
		return false;
	r->rsp = slot;
	r->rip = (uint64_t)(__dune_is_svm ? __dune_foreign_svm : __dune_foreign_vmx);
	return true;
}
