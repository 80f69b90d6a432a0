// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls that are made in place, without leaving DUNE_RUN.
 *
 * A call is what it is elsewhere only if nothing looks at how it was made:
 * those below neither read nor change the caller's registers or execution
 * state, need no restart_block, and take no descriptor away from under the
 * library.  Threads that somebody watches (seccomp, ptrace, audit, tracepoints)
 * make all their calls in user space.
 */
#include <linux/compat.h>
#include <linux/futex.h>
#include <linux/uaccess.h>
#include <asm/ptrace.h>
#include <asm/unistd.h>

#include "compat.h"
#include "dune.h"
#include "ksyms.h"

static const u16 allowed[] = {
	__NR_read, __NR_write, __NR_pread64, __NR_pwrite64, __NR_readv, __NR_writev, __NR_lseek,
	__NR_fstat, __NR_newfstatat, __NR_fcntl, __NR_epoll_ctl,
	__NR_mmap, __NR_munmap, __NR_mprotect, __NR_madvise, __NR_brk,
	__NR_getpid, __NR_gettid, __NR_getppid, __NR_getuid, __NR_geteuid, __NR_getgid,
	__NR_getegid, __NR_clock_gettime, __NR_gettimeofday, __NR_timerfd_settime,
	__NR_timerfd_gettime, __NR_sched_yield, __NR_getrandom, __NR_futex,
};

/*
 * Those that read and write nothing but what is the thread's own, as a bitmap.  None
 * has more than two arguments.
 */
#define BIT_IF(word, nr)	((nr) / BITS_PER_LONG == (word) ? BIT((nr) % BITS_PER_LONG) : 0)
#define PRIVATE(word)									\
	(BIT_IF(word, __NR_getpid) | BIT_IF(word, __NR_gettid) | BIT_IF(word, __NR_getuid) |	\
	 BIT_IF(word, __NR_geteuid) | BIT_IF(word, __NR_getgid) | BIT_IF(word, __NR_getegid) |	\
	 BIT_IF(word, __NR_clock_gettime) | BIT_IF(word, __NR_gettimeofday))

static const unsigned long private_calls[BITS_TO_LONGS(DUNE_NR_FAST_CALLS)] = {
	PRIVATE(0), PRIVATE(1), PRIVATE(2), PRIVATE(3),
};

/*
 * Waiting may be restarted with what is left of the time; waking up is over at once.
 * A vCPU is not run inside of another's DUNE_RUN, or its own.
 */
static bool is_for_user_space(u64 nr, u64 arg)
{
	return (nr == __NR_futex && (arg & FUTEX_CMD_MASK) != FUTEX_WAKE) ||
	       (nr == __NR_lseek && arg == (u64)DUNE_RUN_SEEK);
}

long dune_set_fast_calls(struct dune_vcpu *vcpu, const void __user *argp)
{
	struct dune_fast_calls arg;
	unsigned int i;

	if (!dune_has_sys_call)
		return -EOPNOTSUPP;
	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	vcpu->gate = arg.gate;
	bitmap_zero(vcpu->fast, DUNE_NR_FAST_CALLS);
	for (i = 0; i < ARRAY_SIZE(allowed); i++)
		if (arg.bitmap[allowed[i] / 64] & BIT_ULL(allowed[i] % 64))
			__set_bit(allowed[i], vcpu->fast);
	return 0;
}

/**
 * dune_fast_call - make the call that a hypercall asks for, if it may be
 *
 * Return: RUN_AGAIN it is made; 0 it is for user space; -ERESTART*: DUNE_RUN itself is
 * to be restarted or interrupted, and the hypercall with it.
 */
int dune_fast_call(struct dune_vcpu *vcpu)
{
	struct dune_regs *r = &vcpu->regs;
	struct pt_regs *args = &vcpu->args;
	u64 nr = r->rax;
	long ret;

	if (nr >= DUNE_NR_FAST_CALLS || r->rip != vcpu->gate || dune_syscall_work() ||
	    r->r11 & X86_EFLAGS_TF)	/* one step of the program's: libdune sees to it */
		return 0;
	/* What follows is no index out of range, not even speculatively. */
	OPTIMIZER_HIDE_VAR(nr);
	nr &= DUNE_NR_FAST_CALLS - 1;
	if (!test_bit(nr, vcpu->fast))
		return 0;

	args->di = r->rdi;
	args->si = r->rsi;
	if (!test_bit(nr, private_calls)) {
		if (is_for_user_space(nr, r->rsi))
			return 0;
		args->dx = r->rdx;
		args->r10 = r->r10;
		args->r8 = r->r8;
		args->r9 = r->r9;
		vcpu->flush_l1d = true;
	}
	ret = static_call(dune_sys_call)(args, nr);

	if (unlikely(ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK))
		return ret == -ERESTART_RESTARTBLOCK ? -ERESTARTNOHAND : ret;
	r->rax = ret;
	r->rflags = dune_rflags(r->r11);	/* as SYSRET does */
	dune_skip_insn(vcpu);
	return RUN_AGAIN;
}
