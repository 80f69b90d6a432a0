/* SPDX-License-Identifier: MIT */
/*
 * The host side of a thread in Dune mode: the loop around DUNE_RUN, and the
 * ways in and out of it.
 *
 * It runs on the thread's host stack, never on the program's: below the
 * program's stack pointer lie a red zone and, after a fault, trap frames.  Of
 * the program's state only the general registers are saved (in the run page);
 * vector registers and TLS are the program's, live, and not touched here.
 *
 * A signal may interrupt any instruction here.  The labels tell its handler
 * (signal.c) how far the guest's state in the run page is complete.
 */
#include <sys/syscall.h>

#include "asm.h"

#define SIG_SETMASK	2
#define RFLAGS_TF	0x100
#define CPU_SELECTOR	0x7b	/* Linux's: its limit is node << 12 | CPU */

	.text
	/* All of this file in one 4 GiB: seccomp.c compares addresses. */
	.balign	1024
host_begin:

/*
 * int __dune_enter_guest(struct dune_percpu *pc)
 *
 * Returns 0 in guest mode, on the same stack.  If the first entry fails,
 * __dune_leave() returns from here in host mode with a negative errno.
 */
FUNC(__dune_enter_guest)
	mov	PC_RUN(%rdi), %rsi
	mov	%rbx, GR_RBX(%rsi)
	mov	%rbp, GR_RBP(%rsi)
	mov	%r12, GR_R12(%rsi)
	mov	%r13, GR_R13(%rsi)
	mov	%r14, GR_R14(%rsi)
	mov	%r15, GR_R15(%rsi)
	mov	%rsp, GR_RSP(%rsi)
	mov	%rdi, GR_RDI(%rsi)
	pushfq
	popq	GR_RFLAGS(%rsi)
	lea	1f(%rip), %rax
	mov	%rax, GR_RIP(%rsi)
	jmp	__dune_host_start

1:	/* the first instructions in guest mode */
	movl	$1, PC_ACTIVE(%rdi)
	xor	%eax, %eax
LABEL(__dune_enter_ret)
	ret
END(__dune_enter_guest)

/*
 * void __dune_host_start(struct dune_percpu *pc), does not return
 *
 * Run the guest whose registers are in the run page.
 */
FUNC(__dune_host_start)
	mov	PC_HOST_RSP(%rdi), %rsp
	xor	%ebp, %ebp
	mov	%rdi, %rbx
	mov	PC_RUN(%rdi), %r12

	/*
	 * rbx: struct dune_percpu, r12: its run page; system calls keep both.
	 * A sigreturn is over, its mask in force.  Has a signal been put off by
	 * code that could not be interrupted?
	 */
LABEL(__dune_host_resume)
	movl	$0, PC_RESTORING(%rbx)
	cmpl	$0, PC_DEFERRED(%rbx)
	je	host_loop
	mov	%rbx, %rdi
	call	__dune_deliver_deferred
	test	%eax, %eax
	jz	host_loop
	mov	$SYS_rt_sigprocmask, %eax
	mov	$SIG_SETMASK, %edi
	lea	PC_RESUME_MASK(%rbx), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
LABEL(__dune_mask_done)

	/*
	 * A call that needs no care is made here, with the program's own
	 * registers: one DUNE_RUN and one system call, which is all that
	 * strace sees.
	 */
host_loop:
	mov	PC_CPU(%rbx), %esi	/* what vDSO getcpu() finds in guest mode */
	mov	$CPU_SELECTOR, %eax
	lsl	%eax, %esi
	cmp	%esi, PC_CPU(%rbx)
	jne	7f
	mov	PC_VCPU_FD(%rbx), %edi
	mov	$ASM_RUN_SEEK, %rsi
	xor	%edx, %edx		/* SEEK_SET */
	mov	$SYS_lseek, %eax
	syscall
LABEL(__dune_run_done)
	movslq	%eax, %rsi
	test	%eax, %eax
	jnz	9f
	cmpl	$ASM_EXIT_SYSCALL, RUN_EXIT_REASON(%r12)
	jne	8f

	/*
	 * SYSCALL leaves the flags in r11; what it makes of them itself depends
	 * on SFMASK (and QEMU's TCG clears the arithmetic ones).
	 */
	mov	GR_RIP(%r12), %rax
	cmp	PC_GATE_PLAIN(%rbx), %rax
	jne	9f
	mov	GR_R11(%r12), %rax
	mov	%rax, GR_RFLAGS(%r12)

	mov	GR_RAX(%r12), %rax
	cmp	$DUNE_NR_CALLS, %rax
	jae	1f
	lea	__dune_call_class(%rip), %rcx
	cmpb	$0, (%rcx,%rax)
	jne	9f
LABEL(__dune_call_load)
1:	mov	GR_RAX(%r12), %rax
	mov	GR_RDI(%r12), %rdi
	mov	GR_RSI(%r12), %rsi
	mov	GR_RDX(%r12), %rdx
	mov	GR_R10(%r12), %r10
	mov	GR_R8(%r12), %r8
	mov	GR_R9(%r12), %r9
LABEL(__dune_call_insn)
	syscall
LABEL(__dune_call_done)
	mov	%rax, GR_RAX(%r12)
LABEL(__dune_call_stored)
	testb	$RFLAGS_TF >> 8, GR_RFLAGS + 1(%r12)
	jz	host_loop
	mov	GR_RCX(%r12), %rcx	/* a single step: the gate's jump is none */
	mov	%rcx, GR_RIP(%r12)
LABEL(__dune_call_end)
	jmp	host_loop

7:	mov	%rbx, %rdi
	call	__dune_cpu_changed
	jmp	__dune_host_resume

8:	cmpl	$ASM_EXIT_INTERRUPTED, RUN_EXIT_REASON(%r12)
	je	host_loop
9:	mov	%rbx, %rdi		/* rsi: what DUNE_RUN returned */
LABEL(__dune_host_c)
	call	__dune_host_exit
	test	%eax, %eax
	jz	__dune_host_resume

	/* A call that may be made after all; a signal that was put off comes first. */
LABEL(__dune_plain_check)
	cmpl	$0, PC_DEFERRED(%rbx)
LABEL(__dune_plain_jump)
	je	1b
	mov	%rbx, %rdi
	call	__dune_take_back_call
	jmp	__dune_host_resume
END(__dune_host_start)

/*
 * long __dune_clone(struct dune_percpu *pc, const struct dune_regs *call,
 *		     struct dune_percpu *child)
 *
 * Make the fork, clone or clone3 in *call.  Returns in the parent.  The child
 * runs on its own host stack: that of @child, or, when @child is NULL, the
 * copy that a fork made of this one.
 *
 * With a signal put off the call is not made: -ERESTART (it has not begun).
 */
#define ERESTART	85	/* DUNE_ERESTART */

FUNC(__dune_clone)
	push	%rbx
	push	%rbp
	push	%r12
	mov	%rdi, %rbx
	mov	%rdx, %r12
	mov	%rsi, %rbp
	mov	GR_RDI(%rbp), %rdi
	mov	GR_RSI(%rbp), %rsi
	mov	GR_RDX(%rbp), %rdx
	mov	GR_R10(%rbp), %r10
	mov	GR_R8(%rbp), %r8
	mov	GR_R9(%rbp), %r9
	mov	$-ERESTART, %rax
LABEL(__dune_clone_check)
	cmpl	$0, PC_DEFERRED(%rbx)
	jne	1f
	mov	GR_RAX(%rbp), %rax
LABEL(__dune_clone_insn)
	syscall
LABEL(__dune_clone_done)
	test	%rax, %rax
	jz	2f
1:	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

2:	xor	%ebp, %ebp
	test	%r12, %r12
	jz	3f
	mov	%r12, %rdi
	call	__dune_child_shared
	mov	%r12, %rdi
	jmp	__dune_host_start
3:	mov	%rbx, %rdi
	and	$-16, %rsp
	call	__dune_child_copied
	mov	%rbx, %rdi
	jmp	__dune_host_start
END(__dune_clone)

/*
 * long __dune_exec_call(struct dune_percpu *pc, long nr, long a, long b, long c,
 *			 long d, long e)
 *
 * execve or execveat.  The mask of a signal that was put off would become the
 * new program's: with one, or when one comes now, -ERESTART and no call.
 */
FUNC(__dune_exec_call)
	push	%rbx
	mov	%rdi, %rbx
	mov	%rsi, %rax
	mov	%rdx, %rdi
	mov	%rcx, %rsi
	mov	%r8, %rdx
	mov	%r9, %r10
	mov	16(%rsp), %r8
LABEL(__dune_exec_check)
	cmpl	$0, PC_DEFERRED(%rbx)
	jne	1f
LABEL(__dune_exec_insn)
	syscall
	pop	%rbx
	ret
LABEL(__dune_exec_put_off)
1:	mov	$-ERESTART, %rax
	pop	%rbx
	ret
END(__dune_exec_call)

/*
 * void __dune_leave(const struct dune_regs *regs), does not return
 *
 * Go on in the program, in host mode, with all of *regs.  The stack below the
 * red zone holds the last two values and rflags; RET takes rip from there and
 * steps over the red zone.
 */
FUNC(__dune_leave)
	mov	GR_RSP(%rdi), %rax
	lea	-128-3*8(%rax), %rsp
	mov	GR_RIP(%rdi), %rcx
	mov	%rcx, 16(%rsp)
	mov	GR_RFLAGS(%rdi), %rcx
	mov	%rcx, 8(%rsp)
	mov	GR_RDI(%rdi), %rcx
	mov	%rcx, (%rsp)

	mov	GR_RAX(%rdi), %rax
	mov	GR_RBX(%rdi), %rbx
	mov	GR_RCX(%rdi), %rcx
	mov	GR_RDX(%rdi), %rdx
	mov	GR_RSI(%rdi), %rsi
	mov	GR_RBP(%rdi), %rbp
	mov	GR_R8(%rdi), %r8
	mov	GR_R9(%rdi), %r9
	mov	GR_R10(%rdi), %r10
	mov	GR_R11(%rdi), %r11
	mov	GR_R12(%rdi), %r12
	mov	GR_R13(%rdi), %r13
	mov	GR_R14(%rdi), %r14
	mov	GR_R15(%rdi), %r15
	pop	%rdi
	popfq
	ret	$128
END(__dune_leave)

/*
 * void __dune_unmap_and_exit(void *block, size_t len, long status, long nr)
 *
 * The last act of a thread: its block goes, the host stack under our feet
 * included.  Signals are blocked, so nothing needs the stack any more.
 */
FUNC(__dune_unmap_and_exit)
	mov	%rdx, %rbx
	mov	%rcx, %rbp
	mov	$SYS_munmap, %eax
	syscall
LABEL(__dune_unmap_done)
	mov	%rbx, %rdi
	mov	%rbp, %rax
	syscall
	ud2
END(__dune_unmap_and_exit)

/* Where the kernel returns to from a handler of the host side. */
FUNC(__dune_restorer)
	mov	$SYS_rt_sigreturn, %eax
	syscall
LABEL(__dune_restorer_done)
	ud2
END(__dune_restorer)

/*
 * void __dune_host_sigreturn(struct dune_ucontext *uc), does not return
 *
 * The kernel takes its frame from the stack pointer.
 */
FUNC(__dune_host_sigreturn)
	mov	%rdi, %rsp
	mov	$SYS_rt_sigreturn, %eax
	syscall
	ud2
END(__dune_host_sigreturn)

/*
 * long __dune_own_call(long nr, long a, long b, long c, long d)
 *
 * A call that the host side makes on its own behalf: the program's seccomp
 * filters do not apply to what is made here (see seccomp.c).
 */
FUNC(__dune_own_call)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%cs, %ecx
	test	$3, %cl
	jz	1f
	syscall
LABEL(__dune_own_done)
	ret
1:	cmpb	$0, __dune_is_svm(%rip)	/* in Dune mode, for the last words of a process */
	jne	2f
	vmcall
	ret
2:	vmmcall
	ret
END(__dune_own_call)

	.org	host_begin + 1024	/* an error if there is more */

	.section .note.GNU-stack, "", @progbits
