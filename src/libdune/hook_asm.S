/* SPDX-License-Identifier: MIT */
/*
 * The system-call gate of a thread with hooks: a SYSCALL in ring 0.
 *
 * Below the caller's red zone it makes two frames of the caller: one that the hooks
 * see and change, and one that keeps the caller's registers.  The call itself goes
 * through the plain gate, as if the caller were the jump at "again": a signal that
 * has it made again finds the caller there, two bytes before the return address.
 */
#include "asm.h"

#define RED_ZONE	128
#define FRAME_ROOM	((TF_SIZE + 15) & ~15)

/*
 * The caller's registers from the frame at rbx; rcx and r11 as SYSCALL left them.  rsp
 * points to err then: what lies below is read, and within the red zone of signals.
 */
.macro restore_caller
	lea	TF_ERR(%rbx), %rsp
	mov	TF_RAX(%rbx), %rax
	mov	TF_RDI(%rbx), %rdi
	mov	TF_RSI(%rbx), %rsi
	mov	TF_RDX(%rbx), %rdx
	mov	TF_RIP(%rbx), %rcx
	mov	TF_R8(%rbx), %r8
	mov	TF_R9(%rbx), %r9
	mov	TF_R10(%rbx), %r10
	mov	TF_RFLAGS(%rbx), %r11
	mov	TF_RBP(%rbx), %rbp
	mov	TF_R12(%rbx), %r12
	mov	TF_R13(%rbx), %r13
	mov	TF_R14(%rbx), %r14
	mov	TF_R15(%rbx), %r15
	mov	TF_RBX(%rbx), %rbx
.endm

	.text

FUNC(__dune_hook_call)
	lea	-RED_ZONE(%rsp), %rsp
	pushq	$(SEL_KD)
	push	%rsp
	addq	$(RED_ZONE + 8), (%rsp)
	push	%r11
	pushq	$(SEL_KT)
	push	%rcx
	pushq	$0
	push	%rax
	push_registers rcx=%r10
	cld
	mov	%rsp, %rbx		/* the caller's registers */
	and	$-16, %rsp
	sub	$FRAME_ROOM, %rsp
	mov	%rsp, %rbp		/* what the hooks see */
	mov	%rbx, %rsi
	mov	%rbp, %rdi
	mov	$TF_SIZE / 8, %ecx
	rep movsq

	mov	%rbp, %rdi
	call	__dune_hook_pre
	cmp	$HOOK_CALL, %eax
	je	make
	cmp	$HOOK_ANSWERED, %eax
	je	answered

	/* No hooks: the plain gate, as if nothing had been. */
	restore_caller
	mov	TF_RSP - TF_ERR(%rsp), %rsp
	cmpb	$0, __dune_is_svm(%rip)
	jne	__dune_syscall_svm
	jmp	__dune_syscall_vmx

make:
	pushfq
	pop	%r11
	mov	TF_RDI(%rbp), %rdi
	mov	TF_RSI(%rbp), %rsi
	mov	TF_RDX(%rbp), %rdx
	mov	TF_RCX(%rbp), %r10
	mov	TF_R8(%rbp), %r8
	mov	TF_R9(%rbp), %r9
	mov	TF_RAX(%rbp), %rax
	lea	made(%rip), %rcx
	cmpb	$0, __dune_is_svm(%rip)
	jne	__dune_syscall_svm
	jmp	__dune_syscall_vmx
again:
	.byte	0xeb, make - made	/* a short jump: as long as SYSCALL */
made:
	mov	%rax, TF_RAX(%rbp)
	mov	%rbp, %rdi
	call	__dune_hook_post
answered:
	mov	TF_RAX(%rbp), %rax
	mov	%rax, TF_RAX(%rbx)
	restore_caller
	add	$TF_RIP - TF_ERR, %rsp
	iretq
END(__dune_hook_call)

	.section .note.GNU-stack, "", @progbits
