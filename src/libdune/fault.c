// SPDX-License-Identifier: MIT
/*
 * Accesses that the process's memory map refuses (DUNE_EXIT_FAULT).
 *
 * A program with a page-fault handler gets #PF in guest mode.  For all others
 * the access is made again outside, so that Linux answers it as it would have
 * without Dune.
 *
 * Lean code, on the host stack.
 */
#include <sys/syscall.h>

#include "sigframe.h"

/*
 * So many refusals in a row of an access that works outside: the module and
 * Linux disagree (device memory with odd attributes, for example).
 */
#define MAX_REPLAYS	1000

/* The error code the CPU would have pushed. */
static uint32_t error_code(const struct dune_fault *f)
{
	return (f->present ? FEC_P : 0) | (f->access & DUNE_ACCESS_WRITE ? FEC_W : 0) |
	       (f->access & DUNE_ACCESS_USER ? FEC_U : 0) |
	       (f->access & DUNE_ACCESS_EXEC ? FEC_I : 0);
}

/* The entry code on the IST stack cannot be interrupted by another fault. */
static bool on_ist(uint64_t rip)
{
	return rip >= (uint64_t)__dune_trap_ist && rip < (uint64_t)__dune_trap_ist_end;
}

static void inject(struct dune_percpu *pc, const struct dune_fault *f)
{
	struct dune_run *run = pc->run;

	run->inject.vector = 14;
	run->inject.has_error_code = 1;
	run->inject.error_code = error_code(f);
	run->inject.cr2 = f->gva_valid ? f->gva : f->hva;
	run->inject.valid = 1;
}

static void no_window(const struct dune_run *run)
{
	__dune_message("the page tables point to guest-physical address %p, which no window maps (rip %p)\n",
		       (void *)run->fault.gpa, (void *)run->regs.rip);
	__dune_raise(SIGBUS, BUS_ADRERR, run->fault.gpa);
}

/* How often in a row this access was refused before, the first time 0. */
static uint32_t count_refusals(struct dune_percpu *pc, const struct dune_fault *f)
{
	uint64_t mark = pc->stats->exit[DUNE_STAT_HYPERCALL].count;

	if (pc->replay_hva != f->hva || pc->replay_mark != mark)
		pc->replays = 0;
	pc->replay_hva = f->hva;
	pc->replay_mark = mark;
	return pc->replays++;
}

static void disagreement(const struct dune_percpu *pc, const struct dune_fault *f)
{
	__dune_message("an access to %p (%s%s%s) works outside guest mode and never inside (rip %p)\n",
		       (void *)f->hva, f->access & DUNE_ACCESS_READ ? "r" : "",
		       f->access & DUNE_ACCESS_WRITE ? "w" : "",
		       f->access & DUNE_ACCESS_EXEC ? "x" : "", (void *)pc->run->regs.rip);
	__dune_raise(SIGBUS, BUS_OBJERR, f->hva);
}

/*
 * A fault ends the program that blocks its signal, and that is to be seen where the
 * program stands: so the signal is let in.
 */
static void replay_by(struct dune_percpu *pc, void (*how)(uint64_t hva), uint64_t hva)
{
	uint64_t sync = SIG_SYNC, old = 0;

	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &old, 8);
	pc->masked = pc->deferred ? 0 : old & sync;
	if (pc->masked)
		__dune_own4(SYS_rt_sigprocmask, SIG_UNBLOCK, &sync, NULL, 8);
	how(hva);
	if (!pc->masked)
		return;
	__dune_own4(SYS_rt_sigprocmask, SIG_BLOCK, &pc->masked, NULL, 8);
	pc->masked = 0;
}

/*
 * Jumping to the address would run guest code outside, should it work.  So
 * read from it: Linux answers that as it would the fetch if nothing is mapped
 * there.  Refused again although it can be read: it is not executable.
 */
static void replay_exec(struct dune_percpu *pc, const struct dune_fault *f, uint32_t refusals)
{
	pc->trap = (struct dune_trapinfo) {
		.sig = SIGSEGV, .vec = 14, .err = error_code(f) | FEC_U, .cr2 = f->hva,
	};
	replay_by(pc, __dune_replay_read, f->hva);
	if (!refusals)
		return;
	pc->trap.err |= FEC_P;
	__dune_force_signal(pc, SIGSEGV, SEGV_ACCERR, f->hva);
}

static void replay(struct dune_percpu *pc, const struct dune_fault *f)
{
	uint32_t refusals = count_refusals(pc, f);

	if (refusals >= MAX_REPLAYS)
		disagreement(pc, f);
	if (on_ist(pc->run->regs.rip))
		__dune_message("the stack at %p cannot take a trap frame\n", (void *)f->hva);

	if (f->access & DUNE_ACCESS_WRITE) {
		/* What QEMU's TCG reports as a read when it has one CPU: it reads first. */
		pc->trap.err = FEC_W;
		replay_by(pc, __dune_replay_write, f->hva);
		pc->trap.err = 0;
	} else if (f->access & DUNE_ACCESS_EXEC) {
		replay_exec(pc, f, refusals);
	} else {
		replay_by(pc, __dune_replay_read, f->hva);
	}
}

void __dune_host_fault(struct dune_percpu *pc)
{
	struct dune_run *run = pc->run;
	const struct dune_fault *f = &run->fault;

	pc->trap.sig = 0;
	pc->trap.err = 0;
	if (f->no_window)
		no_window(run);
	else if (__dune_has_pgflt_handler() && !on_ist(run->regs.rip) &&
		 !(f->access & DUNE_ACCESS_WALK))
		inject(pc, f);
	else
		replay(pc, f);
}
