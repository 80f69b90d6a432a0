// SPDX-License-Identifier: MIT
/*
 * What the host loop does with an exit that is no plain system call.
 *
 * Lean code, on the host stack.
 */
#include <asm/processor-flags.h>
#include <errno.h>
#include <signal.h>

#include "local.h"


extern const char __dune_enter_ret[] __attribute__((visibility("hidden")));

/*
 * dune_enter() failed before the guest ran an instruction: return from
 * __dune_enter_guest() with @err.  The run page holds what it saved.
 */
void __dune_leave_failed(struct dune_percpu *pc, long err)
{
	struct dune_regs *out = &pc->child_regs;

	__dune_copy(out, &pc->run->regs, sizeof(*out));
	out->rip = (uint64_t)__dune_enter_ret;
	out->rax = (uint64_t)err;
	__dune_leave(out);
}

static const char *reason_name(uint32_t reason)
{
	switch (reason) {
	case DUNE_EXIT_SHUTDOWN:
		return "triple fault: an exception could not be delivered";
	case DUNE_EXIT_ENTRY_FAILED:
		return "the CPU refuses the guest state";
	case DUNE_EXIT_UNHANDLED:
		return "an exit that nobody handles";
	default:
		return "an exit that this library does not know";
	}
}

/* The guest cannot go on. */
static void dead_end(struct dune_percpu *pc)
{
	const struct dune_run *run = pc->run;

	__dune_message("cannot continue in guest mode: %s (exit %u, hardware reason 0x%x, info 0x%lx, rip %p, rsp %p)\n",
		       reason_name(run->exit_reason), run->exit_reason, run->hw_reason,
		       (unsigned long)run->hw_info, (void *)run->regs.rip,
		       (void *)run->regs.rsp);
	if (!pc->active)
		__dune_leave_failed(pc, -EIO);
	__dune_raise(SIGABRT, SI_USER, 0);
}

/*
 * A jump to a non-canonical address faults before or after it is taken (SDM vol. 2,
 * APM vol. 3, JMP).  In the latter case an interrupt can come between the two, and
 * the vCPU cannot be run from there: this is the fault.
 */
static bool stands_nowhere(const struct dune_percpu *pc)
{
	int64_t rip = (int64_t)pc->run->regs.rip;

	return (int64_t)((uint64_t)rip << 16) >> 16 != rip;
}

static void run_failed(struct dune_percpu *pc, long err)
{
	if (err == -EINTR) {
		__dune_end_fast_call(pc);
		return;
	}
	if (err == -EAGAIN)
		return;
	if (!pc->active)
		__dune_leave_failed(pc, err);
	if (err == -EINVAL && stands_nowhere(pc)) {
		pc->trap = (struct dune_trapinfo) { .sig = SIGSEGV, .vec = T_GP };
		__dune_force_signal(pc, SIGSEGV, SI_KERNEL, 0);
		return;
	}
	__dune_message("running the vCPU failed: errno %ld, rip %p\n", -err,
		       (void *)pc->run->regs.rip);
	__dune_raise(SIGABRT, SI_USER, 0);
}

/* Not 0: there is no memory.  A stack that can grow does. */
static int probe(uint64_t addr)
{
	uint8_t byte;

	return __dune_copy_user(&byte, (const void *)addr, 1) != 0;
}

/* A hypercall from elsewhere than the gate: libdune's own, or a program's system call. */
static void hypercall(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;

	if (r->rip == (uint64_t)__dune_asked_vmx || r->rip == (uint64_t)__dune_asked_svm) {
		if (r->rax == DUNE_ASK_TRAP)
			__dune_host_trap(pc);
		else if (r->rax == DUNE_ASK_LOST)
			__dune_host_lost(pc);
		else if (r->rax == DUNE_ASK_STACK)
			r->rax = (uint64_t)probe(r->rdi) | (uint64_t)probe(r->rsi);
		return;		/* DUNE_ASK_SIGNAL: the loop does it next */
	}
	if (r->rip == (uint64_t)__dune_int80_vmx || r->rip == (uint64_t)__dune_int80_svm) {
		__dune_host_int80(pc);
		return;
	}
	if (r->rax < DUNE_NR_CALLS && __dune_call_class[r->rax])
		__dune_host_call(pc);
	else
		r->rax = (uint64_t)__dune_forward(r);
}

/*
 * To a program that steps through itself SYSCALL is one step, and the gate none.
 * 1: the call is plain, and the caller makes it.
 */
static int gate_call(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;

	if (!pc->gate_plain) {
		r->rflags = r->r11;
		if (!__dune_dispatch(pc))
			return 0;
		if (pc->strict)
			__dune_check_strict(pc, false);
		if (r->rax >= DUNE_NR_CALLS || !__dune_call_class[r->rax])
			return 1;
	}
	__dune_host_call(pc);
	if (r->rip == pc->gate_ret && r->rflags & X86_EFLAGS_TF)
		r->rip = r->rcx;
	return 0;
}

/*
 * @err: what DUNE_RUN returned.  0: run the vCPU again; 1: make the call that the
 * guest asks for, which is a plain one.
 */
int __dune_host_exit(struct dune_percpu *pc, long err)
{
	if (err) {
		run_failed(pc, err);
		return 0;
	}
	switch (pc->run->exit_reason) {
	case DUNE_EXIT_SYSCALL:
		if (pc->run->regs.rip == pc->gate_ret)
			return gate_call(pc);
		hypercall(pc);
		break;
	case DUNE_EXIT_FAULT:
		__dune_host_fault(pc);
		break;
	default:
		dead_end(pc);
	}
	return 0;
}
