// SPDX-License-Identifier: MIT
/*
 * Ring 3 of a thread in Dune mode: see ring_asm.S.
 *
 * Lean code: part of it runs on an IST stack.
 */
#include <errno.h>
#include <signal.h>

#include "libdune/cpu-x86.h"
#include "local.h"

/* What SYSCALL clears: TF DF IOPL NT AC.  The gate restores them for ring 0. */
#define SFMASK_GATE	0x00047500U

#define SYSCALL_LEN	2
#define RAX_SLOT	56	/* below ring0_rsp, in the frame that the gate pushes */

static void no_handler(struct dune_tf *tf)
{
	__dune_message("system call %lu from ring 3 (rip 0x%lx), and no handler\n",
		       (unsigned long)tf->rax, (unsigned long)tf->rip);
	__dune_raise(SIGSYS, SI_KERNEL, 0);
}

dune_syscall_cb __dune_syscall_call = no_handler;

DUNE_EXPORT void dune_register_syscall_handler(dune_syscall_cb cb)
{
	__atomic_store_n(&__dune_syscall_call, cb ? cb : no_handler, __ATOMIC_RELEASE);
}

static void swapgs(void)
{
	__asm__ volatile("swapgs" : : : "memory");
}

static uint64_t read_fs(void)
{
	uint64_t base;

	__asm__ volatile("rdfsbase %0" : "=r"(base));
	return base;
}

static void write_fs(uint64_t base)
{
	__asm__ volatile("wrfsbase %0" : : "r"(base) : "memory");
}

/* In [@first, @end)? */
static bool within(uint64_t rip, const char *first, const char *end)
{
	return rip >= (uint64_t)first && rip < (uint64_t)end;
}

/* @r11: SYSCALL's copy of the flags; the gates' first instructions serve ring 0 too. */
static bool on_entry(uint64_t rip, uint64_t r11)
{
	return within(rip, __dune_ring_begin, __dune_ring_based) ||
	       (within(rip, __dune_ring_gates, __dune_syscall_vmx) && r11 & DUNE_IOPL);
}

static bool on_exit(uint64_t rip)
{
	return within(rip, __dune_ring_exit, __dune_ring_done);
}

/* Host side: is the guest in ring 3, or are its registers half ring 3's? */
bool __dune_ring_busy(const struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;

	if (!pc->ring0_rsp || within(r->rip, __dune_trap_ist, __dune_trap_ist_end))
		return false;
	return r->rflags & DUNE_IOPL || on_entry(r->rip, r->r11) || on_exit(r->rip);
}

/*
 * A step from ring 3 into the gate, which Bochs reports although SFMASK clears TF:
 * ring 3's next instruction is the one to report.
 */
bool __dune_ring_stepped(const struct dune_tf *tf)
{
	return !(tf->cs & 3) && on_entry(tf->rip, tf->r11);
}

/* SYSCALL was executed, and nothing came of it: ring 3 is at the instruction again. */
static void take_back(struct dune_percpu *pc, struct dune_tf *tf)
{
	if (tf->rip <= (uint64_t)__dune_ring_begin)
		swapgs();
	if (tf->rip > (uint64_t)__dune_ring_saved)
		tf->rsp = pc->user_rsp;
	if (tf->rip >= (uint64_t)__dune_ring_clobbered)
		tf->rax = *(const uint64_t *)(pc->ring0_rsp - RAX_SLOT);
	tf->rip = tf->rcx - SYSCALL_LEN;
	tf->rflags = tf->r11;
	tf->cs = GD_UT_RPL3;
	tf->ss = GD_UD_RPL3;
	pc->user_fs = read_fs();
}

/* On the way to ring 3: it is there.  The error code stays: IRETQ may have failed. */
static void complete(struct dune_tf *tf)
{
	bool framed = tf->rip >= (uint64_t)__dune_ring_framed;
	const struct dune_tf *to = (const struct dune_tf *)(tf->rsp - (framed ? TF_RIP : 0));
	uint32_t err = tf->err;

	if (tf->rip == (uint64_t)__dune_ring_iretq)
		swapgs();
	__dune_copy(tf, to, sizeof(*tf));
	tf->err = err;
	tf->rflags |= DUNE_USER_IOPL;
}

/*
 * On an IST stack: was it ring 3 that was interrupted?  Then *tf says so, and FS and
 * GS are ring 0's.
 */
bool __dune_ring_leave(struct dune_percpu *pc, struct dune_tf *tf)
{
	if (tf->cs & 3) {
		swapgs();
		pc->user_fs = read_fs();
	} else if (on_entry(tf->rip, tf->r11)) {
		take_back(pc, tf);
	} else if (on_exit(tf->rip)) {
		complete(tf);
	} else {
		return false;
	}
	write_fs(pc->ring0_fs);
	return true;
}

/* Once a thread, and out of the way of what is called often. */
__attribute__((noinline)) static void prepare(struct dune_percpu *pc)
{
	const char *gate = __dune_is_svm ? __dune_ring_gate_svm : __dune_ring_gate_vmx;

	pc->user_fs = read_fs();
	wrmsrl(MSR_SFMASK, SFMASK_GATE);
	if (!__dune_hook_gate_set())
		wrmsrl(MSR_LSTAR, (uint64_t)gate);
	pc->ring_gate = 1;
}

/* The caller's block, made ready for ring 3; NULL with the reason in *@ret. */
static struct dune_percpu *ready(int *ret)
{
	struct dune_percpu *pc = __dune_this_percpu();

	*ret = -EINVAL;
	if (!pc)
		return NULL;
	*ret = -ENOTSUP;
	if (!(__dune_info.features & DUNE_FEAT_FSGSBASE) || !__dune_xsave_mask)
		return NULL;
	if (!pc->ring_gate)
		prepare(pc);
	return pc;
}

DUNE_EXPORT int dune_jump_to_user(struct dune_tf *tf)
{
	int ret;
	struct dune_percpu *pc = ready(&ret);

	if (!pc)
		return ret;
	return __dune_ring_enter(pc, tf);
}

DUNE_EXPORT void dune_ret_from_user(int ret)
{
	struct dune_percpu *pc = __dune_this_percpu();

	if (!pc || !pc->ring_frame) {
		__dune_message("dune_ret_from_user() without a dune_jump_to_user()\n");
		__dune_raise(SIGABRT, SI_USER, 0);
	}
	__dune_ring_return(pc, ret);
}

DUNE_EXPORT unsigned long dune_get_user_fs(void)
{
	struct dune_percpu *pc = __dune_this_percpu();

	if (!pc)
		return 0;
	return pc->ring_gate ? pc->user_fs : native_read_msr(MSR_FS_BASE);
}

DUNE_EXPORT void dune_set_user_fs(unsigned long base)
{
	int ret;
	struct dune_percpu *pc = ready(&ret);

	if (pc)
		pc->user_fs = base;
}
