/* SPDX-License-Identifier: MIT */
/*
 * The host side of a thread in Dune mode: the loop around DUNE_RUN, and the
 * ways in and out of it.
 *
 * It runs on the thread's host stack, never on the program's: below the
 * program's stack pointer lie a red zone and, after a fault, trap frames.  Of
 * the program's state only the general registers are saved (in the run page);
 * vector registers and TLS are the program's, live, and not touched here.
 */
#include <sys/syscall.h>

#include "asm.h"

	.text

/*
 * int __dune_enter_guest(struct dune_percpu *pc)
 *
 * Returns 0 in guest mode, on the same stack.  If the first entry fails,
 * __dune_leave_failed() returns from here in host mode with a negative errno.
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

	mov	PC_HOST_RSP(%rdi), %rsp
	xor	%ebp, %ebp
	mov	%rdi, %rbx
	mov	%rsi, %r12
	jmp	host_loop

1:	/* the first instructions in guest mode */
	movl	$1, PC_ACTIVE(%rdi)
	xor	%eax, %eax
LABEL(__dune_enter_ret)
	ret
END(__dune_enter_guest)

/*
 * rbx: struct dune_percpu, r12: its run page; system calls keep both.
 *
 * A call that needs no care is made here, with the program's own registers:
 * one DUNE_RUN and one system call, which is all that strace sees.
 */
	.type	host_loop, @function
	.balign	16
host_loop:
	mov	PC_VCPU_FD(%rbx), %edi
	mov	$ASM_DUNE_RUN, %esi
	xor	%edx, %edx
	mov	$SYS_ioctl, %eax
	syscall
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
	cmp	PC_GATE_RET(%rbx), %rax
	jne	2f
	mov	GR_R11(%r12), %rax
	mov	%rax, GR_RFLAGS(%r12)

2:	mov	GR_RAX(%r12), %rax
	cmp	$DUNE_NR_CALLS, %rax
	jae	1f
	lea	__dune_call_class(%rip), %rcx
	cmpb	$0, (%rcx,%rax)
	jne	9f
1:	mov	GR_RDI(%r12), %rdi
	mov	GR_RSI(%r12), %rsi
	mov	GR_RDX(%r12), %rdx
	mov	GR_R10(%r12), %r10
	mov	GR_R8(%r12), %r8
	mov	GR_R9(%r12), %r9
	syscall
	mov	%rax, GR_RAX(%r12)
	jmp	host_loop

8:	cmpl	$ASM_EXIT_INTERRUPTED, RUN_EXIT_REASON(%r12)
	je	host_loop
9:	mov	%rbx, %rdi		/* rsi: what the ioctl returned */
	call	__dune_host_exit
	jmp	host_loop
	.size	host_loop, . - host_loop

/*
 * long __dune_clone(struct dune_child *child)
 *
 * Make the fork, vfork, clone or clone3 of child->regs.  Returns in the
 * parent.  The child leaves for the program, in host mode.
 *
 * It knows its stack from the kernel: another one than the parent's host
 * stack was asked for by the program.  It knows whether it is a copy of the
 * process or shares its memory from the fork mark.
 */
FUNC(__dune_clone)
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	mov	%rdi, %rbx
	mov	%rsp, CH_HOST_RSP(%rbx)
	mov	__dune_fork_mark(%rip), %r12
	mov	CH_REGS + GR_RAX(%rbx), %rax
	mov	CH_REGS + GR_RDI(%rbx), %rdi
	mov	CH_REGS + GR_RSI(%rbx), %rsi
	mov	CH_REGS + GR_RDX(%rbx), %rdx
	mov	CH_REGS + GR_R10(%rbx), %r10
	mov	CH_REGS + GR_R8(%rbx), %r8
	mov	CH_REGS + GR_R9(%rbx), %r9
	syscall
	test	%rax, %rax
	jz	1f
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

1:	movq	$0, CH_REGS + GR_RAX(%rbx)
	cmp	CH_HOST_RSP(%rbx), %rsp
	je	2f
	mov	%rsp, CH_REGS + GR_RSP(%rbx)
2:	cmpl	$0, (%r12)
	jne	3f
	mov	CH_HOST_RSP(%rbx), %rsp	/* its own copy of the host stack */
	and	$-16, %rsp
	mov	%rbx, %rdi
	call	__dune_child_copied
3:	mov	%rbx, %rdi
	jmp	__dune_leave
END(__dune_clone)

/*
 * void __dune_leave(struct dune_child *child), does not return
 *
 * Go on in the program, in host mode, with all of child->regs.  The stack
 * below the red zone holds the last two values and rflags; RET takes rip from
 * there and steps over the red zone.  The parent may reuse *child as soon as
 * busy is 0, so that is the last access.
 */
FUNC(__dune_leave)
	mov	CH_REGS + GR_RSP(%rdi), %rax
	lea	-128-3*8(%rax), %rsp
	mov	CH_REGS + GR_RIP(%rdi), %rcx
	mov	%rcx, 16(%rsp)
	mov	CH_REGS + GR_RFLAGS(%rdi), %rcx
	mov	%rcx, 8(%rsp)
	mov	CH_REGS + GR_RDI(%rdi), %rcx
	mov	%rcx, (%rsp)

	mov	CH_REGS + GR_RAX(%rdi), %rax
	mov	CH_REGS + GR_RBX(%rdi), %rbx
	mov	CH_REGS + GR_RCX(%rdi), %rcx
	mov	CH_REGS + GR_RDX(%rdi), %rdx
	mov	CH_REGS + GR_RSI(%rdi), %rsi
	mov	CH_REGS + GR_RBP(%rdi), %rbp
	mov	CH_REGS + GR_R8(%rdi), %r8
	mov	CH_REGS + GR_R9(%rdi), %r9
	mov	CH_REGS + GR_R10(%rdi), %r10
	mov	CH_REGS + GR_R11(%rdi), %r11
	mov	CH_REGS + GR_R12(%rdi), %r12
	mov	CH_REGS + GR_R13(%rdi), %r13
	mov	CH_REGS + GR_R14(%rdi), %r14
	mov	CH_REGS + GR_R15(%rdi), %r15
	movl	$0, CH_BUSY(%rdi)
	pop	%rdi
	popfq
	ret	$128
END(__dune_leave)

/*
 * void __dune_unmap_and_exit(void *block, size_t len, long status)
 *
 * The last act of a thread: its block goes, the host stack under our feet
 * included.  Signals are blocked, so nothing needs the stack any more.
 */
FUNC(__dune_unmap_and_exit)
	mov	%rdx, %rbx
	mov	$SYS_munmap, %eax
	syscall
	mov	%rbx, %rdi
	mov	$SYS_exit, %eax
	syscall
	ud2
END(__dune_unmap_and_exit)

	.section .note.GNU-stack, "", @progbits
