// SPDX-License-Identifier: MIT
/*
 * What the host loop does with an exit that is no plain system call.
 *
 * Lean code, on the host stack.
 */
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
	struct dune_child *out = &pc->child[0];

	__dune_copy(&out->regs, &pc->run->regs, sizeof(out->regs));
	out->regs.rip = (uint64_t)__dune_enter_ret;
	out->regs.rax = (uint64_t)err;
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

static void run_failed(struct dune_percpu *pc, long err)
{
	if (err == -EINTR || err == -EAGAIN)
		return;
	if (!pc->active)
		__dune_leave_failed(pc, err);
	if (err == -EIO && !*__dune_fork_mark)
		__dune_message("a signal handler that interrupted Dune mode forked, and its child returned into Dune mode\n");
	else
		__dune_message("running the vCPU failed: errno %ld, rip %p\n", -err,
			       (void *)pc->run->regs.rip);
	__dune_raise(SIGABRT, SI_USER, 0);
}

/* @err: what DUNE_RUN returned.  Returning from here runs the vCPU again. */
void __dune_host_exit(struct dune_percpu *pc, long err)
{
	if (err) {
		run_failed(pc, err);
		return;
	}
	switch (pc->run->exit_reason) {
	case DUNE_EXIT_SYSCALL:
		__dune_host_call(pc);
		break;
	case DUNE_EXIT_FAULT:
		__dune_host_fault(pc);
		break;
	default:
		dead_end(pc);
	}
}
