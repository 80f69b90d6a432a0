/* SPDX-License-Identifier: MIT */
/*
 * Looking at system calls in Dune mode, before and after they are made.
 *
 * While there are hooks, a SYSCALL instruction in ring 0 calls them in Dune mode, on
 * the caller's stack below its red zone (some 4 KB of it), with the vector registers
 * saved around them.  *tf is the caller, in the form of a system call from ring 3:
 * the number in tf->rax, the arguments ARG0(tf) to ARG5(tf), tf->rip behind the
 * instruction.
 *
 * A hook must return.  System calls that it makes itself, and those of signal handlers
 * that interrupt it, are forwarded without hooks.  The caller finds in its registers
 * what Linux leaves it: the result, and its own arguments, whatever the hooks made of
 * them.  A signal that has a call made again does not call the first hook again.
 *
 * Not hooked: what makes no system call (the vDSO's functions, where they need none),
 * calls from ring 3 (dune_register_syscall_handler() has those; passing one on by
 * dune_passthrough_syscall() is a call of ring 0), int $0x80, VMCALL and VMMCALL in the
 * program, libdune's own calls (dune_mmap(), dune_printf(), and those of the host
 * side); fork(), vfork(), clone() and clone3(), which return twice, and rt_sigreturn(),
 * which does not.  A call that does not return (exit, a successful exec) has no second
 * hook.  System-call user dispatch (PR_SET_SYSCALL_USER_DISPATCH) sees hooked calls at
 * an address in libdune.
 */
#ifndef LIBDUNE_HOOKS_H
#define LIBDUNE_HOOKS_H

#ifdef __cplusplus
extern "C" {
#endif

struct dune_tf;

/*
 * Before a call: may change tf->rax and ARG0(tf) to ARG5(tf).  0: the call is made;
 * else it is not, tf->rax is the result, and the second hook is not called.
 */
typedef int (*dune_pre_syscall_cb)(struct dune_tf *tf);

/*
 * After a call: tf->rax is the result or a negative errno value and may be changed; the
 * arguments are those that the call was made with.
 */
typedef void (*dune_post_syscall_cb)(struct dune_tf *tf);

/**
 * dune_hook_syscalls - call functions before and after each system call
 * @pre, @post: either may be NULL; both NULL: no hooks from now on
 *
 * The functions are one pair for the process.  They are called for the calling thread,
 * if it is in Dune mode, for threads and processes that it or other such threads
 * create later, and for threads that enter Dune mode later.  Other threads that are in
 * Dune mode already join by calling this too.  Threads without hooks pay nothing.
 *
 * Return: 0.
 */
int dune_hook_syscalls(dune_pre_syscall_cb pre, dune_post_syscall_cb post);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_HOOKS_H */
