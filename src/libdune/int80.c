// SPDX-License-Identifier: MIT
/*
 * `int $0x80` in Dune mode: the 32-bit system call that it is in any 64-bit
 * process, unless the program handles vector 128 itself.
 *
 * Most calls are made by the host side as they are.  Those that act on the caller's
 * own life or on libdune's descriptors become the 64-bit call of the same meaning,
 * which knows how; those that have none in a guest are refused.
 *
 * Lean code, on the host stack.
 */
#include <errno.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include "i386.h"
#include "local.h"

/* What lies on the IST stack when the entry code asks: see trap_asm.S. */
struct frame {
	uint64_t vec, err, rip, cs, rflags, rsp;
};

#define AS_IS	(-1)
#define REFUSED	(-2)

/*
 * The number of the 64-bit call to make.  Refused: the frames of 32-bit handlers and
 * the segments of 32-bit threads are the host's, and the guest has none.
 */
static long translate(uint32_t nr)
{
	switch (nr) {
	case I386_exit:
		return SYS_exit;
	case I386_exit_group:
		return SYS_exit_group;
	case I386_fork:
		return SYS_fork;
	case I386_vfork:
		return SYS_vfork;
	case I386_clone:
		return SYS_clone;
	case I386_close:
		return SYS_close;
	case I386_close_range:
		return SYS_close_range;
	case I386_dup2:
		return SYS_dup2;
	case I386_dup3:
		return SYS_dup3;
	case I386_pkey_alloc:
		return SYS_pkey_alloc;
	case I386_signal:
	case I386_sigaction:
	case I386_rt_sigaction:
	case I386_sigreturn:
	case I386_rt_sigreturn:
	case I386_sigaltstack:
	case I386_set_thread_area:
	case I386_get_thread_area:
	case I386_modify_ldt:
	case I386_iopl:
	case I386_ioperm:
	case I386_clone3:
	case I386_rseq:
		return REFUSED;
	default:
		return AS_IS;
	}
}

/* A filter in 32-bit words, strict mode, and dispatch by address: see seccomp.c. */
static bool is_refused(const struct dune_regs *r)
{
	uint32_t nr = (uint32_t)r->rax, what = (uint32_t)r->rbx;

	if (nr == I386_prctl)
		return what == PR_SET_SECCOMP ||
		       (what == PR_SET_SYSCALL_USER_DISPATCH && (uint32_t)r->rcx);
	return nr == I386_seccomp &&
	       (what == SECCOMP_SET_MODE_STRICT || what == SECCOMP_SET_MODE_FILTER);
}

/* The call in 64-bit words. */
static long call64(struct dune_percpu *pc, long nr)
{
	const struct dune_regs *r = &pc->run->regs;
	struct dune_regs call;

	__dune_copy(&call, r, sizeof(call));
	call.rax = (uint64_t)nr;
	call.rdi = (uint32_t)r->rbx;
	call.rsi = (uint32_t)r->rcx;
	call.rdx = (uint32_t)r->rdx;
	if (nr == SYS_clone) {		/* the order of CLONE_BACKWARDS */
		if (call.rdi & CLONE_SETTLS)
			return -ENOSYS;
		call.r10 = (uint32_t)r->rdi;
		call.r8 = 0;
	}
	return __dune_special_call(pc, &call);
}

/* The registers in the run page are the program's but for those in the frame. */
void __dune_host_int80(struct dune_percpu *pc)
{
	struct dune_regs *r = &pc->run->regs;
	struct frame f;
	long nr, ret;

	if (__dune_copy_user(&f, (const void *)r->rsp, sizeof(f)))
		__dune_raise(SIGSEGV, SI_KERNEL, 0);
	r->rip = f.rip;
	r->rflags = f.rflags;
	r->rsp = f.rsp;

	if (pc->strict)
		__dune_check_strict(pc, true);
	nr = translate((uint32_t)r->rax);
	if (nr == REFUSED)
		ret = -ENOSYS;
	else if (is_refused(r))
		ret = -EINVAL;
	else if (nr == AS_IS)
		__dune_int80_call(pc);
	else
		ret = call64(pc, nr);
	if (ret == -DUNE_ERESTART)
		r->rip -= DUNE_INT80_LEN;
	else
		r->rax = (uint64_t)ret;
}
