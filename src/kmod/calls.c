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
#include <linux/uaccess.h>
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

const unsigned long dune_private_calls[BITS_TO_LONGS(DUNE_NR_FAST_CALLS)] = {
	PRIVATE(0), PRIVATE(1), PRIVATE(2), PRIVATE(3),
};

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
