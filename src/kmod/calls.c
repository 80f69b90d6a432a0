// SPDX-License-Identifier: GPL-2.0-only
/*
 * System calls that are made in place, without leaving DUNE_RUN.
 *
 * A call is what it is elsewhere only if nothing looks at how it was made:
 * those below neither read nor change the caller's registers or execution
 * state, need no restart_block, change no signal mask meanwhile, and take no
 * descriptor away from under the library.  Threads that somebody watches (seccomp,
 * ptrace, audit, tracepoints) make all their calls in user space.
 */
#include <linux/uaccess.h>
#include <asm/unistd.h>

#include "compat.h"
#include "dune.h"
#include "ksyms.h"

/*
 * The first NR_PRIVATE read and write nothing but what is the thread's own, and have at
 * most two arguments.
 */
#define NR_PRIVATE	8
static const u16 allowed[] = {
	__NR_getpid, __NR_gettid, __NR_getuid, __NR_geteuid, __NR_getgid, __NR_getegid,
	__NR_clock_gettime, __NR_gettimeofday,
	__NR_read, __NR_write, __NR_pread64, __NR_pwrite64, __NR_readv, __NR_writev, __NR_lseek,
	__NR_open, __NR_openat, __NR_openat2, __NR_stat, __NR_lstat, __NR_fstat, __NR_newfstatat,
	__NR_statx, __NR_access, __NR_faccessat, __NR_faccessat2, __NR_readlink, __NR_readlinkat,
	__NR_getdents64, __NR_fcntl,
	__NR_sendto, __NR_recvfrom, __NR_sendmsg, __NR_recvmsg, __NR_accept, __NR_accept4,
	__NR_setsockopt, __NR_getsockopt, __NR_sendfile, __NR_epoll_ctl, __NR_epoll_wait,
	__NR_mmap, __NR_munmap, __NR_mprotect, __NR_madvise, __NR_brk, __NR_getppid,
	__NR_timerfd_settime, __NR_timerfd_gettime, __NR_sched_yield, __NR_getrandom, __NR_futex,
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
	for (i = 0; i < ARRAY_SIZE(allowed); i++) {
		__assign_bit(allowed[i], vcpu->private, i < NR_PRIVATE);
		__assign_bit(allowed[i], vcpu->fast,
			     arg.bitmap[allowed[i] / 64] & BIT_ULL(allowed[i] % 64));
	}
	return 0;
}
