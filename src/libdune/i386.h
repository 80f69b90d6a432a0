/* SPDX-License-Identifier: MIT */
/*
 * Numbers of 32-bit system calls (Linux: arch/x86/entry/syscalls/syscall_32.tbl), as far
 * as libdune treats them in a way of its own.
 */
#ifndef LIBDUNE_I386_H
#define LIBDUNE_I386_H

enum {
	I386_exit		= 1,
	I386_fork		= 2,
	I386_read		= 3,
	I386_write		= 4,
	I386_close		= 6,
	I386_signal		= 48,
	I386_dup2		= 63,
	I386_sigaction		= 67,
	I386_ioperm		= 101,
	I386_iopl		= 110,
	I386_sigreturn		= 119,
	I386_clone		= 120,
	I386_modify_ldt		= 123,
	I386_prctl		= 172,
	I386_rt_sigreturn	= 173,
	I386_rt_sigaction	= 174,
	I386_sigaltstack	= 186,
	I386_vfork		= 190,
	I386_set_thread_area	= 243,
	I386_get_thread_area	= 244,
	I386_exit_group		= 252,
	I386_dup3		= 330,
	I386_seccomp		= 354,
	I386_pkey_alloc		= 381,
	I386_rseq		= 386,
	I386_clone3		= 435,
	I386_close_range	= 436,
};

#endif /* LIBDUNE_I386_H */
