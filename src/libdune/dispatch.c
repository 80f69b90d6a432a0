// SPDX-License-Identifier: MIT
/*
 * System-call user dispatch (PR_SET_SYSCALL_USER_DISPATCH).
 *
 * Linux would look at where the host side makes the calls, which is one place for
 * all of them.  So it is not told, and what it does (kernel/entry/) is done here,
 * with the address that SYSCALL left in rcx.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/prctl.h>
#include <signal.h>

#include "sigframe.h"

#define SYS_USER_DISPATCH	2	/* si_code */

#ifndef PR_SYS_DISPATCH_OFF
#define PR_SYS_DISPATCH_OFF	0
#define PR_SYS_DISPATCH_ON	1
#define SYSCALL_DISPATCH_FILTER_ALLOW	0
#define SYSCALL_DISPATCH_FILTER_BLOCK	1
#endif

/* The prctl() in the run page. */
long __dune_set_dispatch(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	uint64_t offset = r->rdx, len = r->r10, selector = r->r8;
	int ret;

	if (r->rsi == PR_SYS_DISPATCH_OFF) {
		if (offset || len || selector)
			return -EINVAL;
		pc->gate_plain = pc->gate_ret;
		return __dune_fast_calls_allow(pc);
	}
	if (r->rsi != PR_SYS_DISPATCH_ON || (offset && offset + len <= offset))
		return -EINVAL;
	if (selector >= USER_END)
		return -EFAULT;
	ret = __dune_fast_calls_forbid(pc);
	if (ret)
		return ret;
	pc->dispatch_offset = offset;
	pc->dispatch_len = len;
	pc->dispatch_selector = selector;
	pc->gate_plain = 0;
	return 0;
}

/* May the call in the run page be made?  If not, it has become a signal. */
bool __dune_dispatch(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	uint8_t state;
	siginfo_t info;

	if (r->rcx - pc->dispatch_offset < pc->dispatch_len)
		return true;
	if (pc->dispatch_selector) {
		if (__dune_copy_user(&state, (const void *)pc->dispatch_selector, 1))
			__dune_raise(SIGSEGV, SI_KERNEL, 0);
		if (state == SYSCALL_DISPATCH_FILTER_ALLOW)
			return true;
		if (state != SYSCALL_DISPATCH_FILTER_BLOCK)
			__dune_raise(SIGSYS, SI_KERNEL, 0);
	}
	__dune_clear(&info, sizeof(info));
	info.si_signo = SIGSYS;
	info.si_code = SYS_USER_DISPATCH;
	info.si_call_addr = (void *)r->rcx;
	info.si_syscall = (int)r->rax;
	info.si_arch = AUDIT_ARCH_X86_64;
	__dune_force_info(pc, &info);
	return false;
}
