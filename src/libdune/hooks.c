// SPDX-License-Identifier: MIT
/*
 * Functions around the program's system calls: see hook_asm.S for the gate.
 *
 * Lean code: the program's vector registers are live.
 */
#include <sys/syscall.h>

#include "libdune/cpu-x86.h"
#include "local.h"

#define XSAVE_HEADER	512
#define XSAVE_HEADER_SIZE	64

static dune_pre_syscall_cb pre_call;
static dune_post_syscall_cb post_call;

bool __dune_hooked(void)
{
	return __atomic_load_n(&pre_call, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&post_call, __ATOMIC_ACQUIRE);
}

static uint64_t read_lstar(void)
{
	return native_read_msr(MSR_LSTAR);
}

/* The child of a hooked thread has its parent's LSTAR: so that is what tells. */
bool __dune_hook_gate_set(void)
{
	return read_lstar() == (uint64_t)__dune_hook_gate;
}

static void write_lstar(const char *gate)
{
	wrmsrl(MSR_LSTAR, (uint64_t)gate);
}

static const char *plain_gate(const struct dune_percpu *pc)
{
	if (pc->ring_gate || pc->ring0_rsp)
		return __dune_is_svm ? __dune_ring_gate_svm : __dune_ring_gate_vmx;
	return __dune_is_svm ? __dune_syscall_svm : __dune_syscall_vmx;
}

DUNE_EXPORT int dune_hook_syscalls(dune_pre_syscall_cb pre, dune_post_syscall_cb post)
{
	struct dune_percpu *pc = __dune_this_percpu();

	__atomic_store_n(&pre_call, pre, __ATOMIC_RELEASE);
	__atomic_store_n(&post_call, post, __ATOMIC_RELEASE);
	if (!pc)
		return 0;
	if (pre || post)
		write_lstar(__dune_hook_gate);
	else if (__dune_hook_gate_set())
		write_lstar(plain_gate(pc));
	return 0;
}

/* Not hooked: they return twice, or to somewhere else. */
static bool leaves_the_stack(uint64_t nr)
{
	switch (nr) {
	case SYS_fork:
	case SYS_vfork:
	case SYS_clone:
	case SYS_clone3:
	case SYS_rt_sigreturn:
		return true;
	default:
		return false;
	}
}

static int call_hook(struct dune_percpu *pc, struct dune_tf *tf, dune_pre_syscall_cb pre,
		     dune_post_syscall_cb post)
{
	char area[__dune_fpu_size] __attribute__((aligned(64)));
	int ret = 0;

	if (__dune_xsave_mask)
		__dune_clear(area + XSAVE_HEADER, XSAVE_HEADER_SIZE);
	__dune_fpu_save(area, __dune_xsave_mask);
	pc->hooking = 1;
	if (pre)
		ret = pre(tf);
	else
		post(tf);
	pc->hooking = 0;
	__dune_fpu_load(area, __dune_xsave_mask);
	return ret;
}

/* Called by the gate: what becomes of the call. */
int __dune_hook_pre(struct dune_tf *tf)
{
	struct dune_percpu *pc = __dune_this_percpu();
	dune_pre_syscall_cb pre = __atomic_load_n(&pre_call, __ATOMIC_ACQUIRE);

	if (!pc || pc->hooking || leaves_the_stack(tf->rax) || !__dune_hooked())
		return HOOK_NONE;
	return pre && call_hook(pc, tf, pre, NULL) ? HOOK_ANSWERED : HOOK_CALL;
}

void __dune_hook_post(struct dune_tf *tf)
{
	struct dune_percpu *pc = __dune_this_percpu();
	dune_post_syscall_cb post = __atomic_load_n(&post_call, __ATOMIC_ACQUIRE);

	if (pc && post)
		call_hook(pc, tf, NULL, post);
}
