/* SPDX-License-Identifier: MIT */
/*
 * Ring 3: the ways in and out of it, and its system calls.
 *
 * In ring 3 the program's own GS base is loaded and KERNEL_GS_BASE points to
 * struct dune_percpu; in ring 0 it is the other way round while a call of
 * dune_jump_to_user() lasts.  FS follows: percpu->ring0_fs and ->user_fs.
 * The frame of ring 3's registers lies below percpu->ring0_rsp, the vector
 * registers above it.
 *
 * A signal or an interrupt may come at any instruction.  Where ring 3's registers
 * are half exchanged, __dune_ring_leave() completes or takes back what the labels
 * tell: so nothing of this needs IF clear.
 */
#include "asm.h"

#define XSAVE_HEADER	512

/* From percpu->ring0_rsp up to the vector registers: it is 8 above a multiple of 64. */
#define RING_FPU	56

	.text

/*
 * Where a SYSCALL lands (LSTAR): of a thread that has been in ring 3 at a ring gate, of
 * one with hooks at the hook gate; r11, the caller's flags, tells the rings apart.
 * Otherwise at the vendor's hypercall.
 *
 * That is ring 0's call: rcx is the address of the next instruction, as SYSCALL left it.
 * No stack is used, so the caller's red zone is safe.  The flags are those in r11: SFMASK
 * is 0, and the host loop restores what an emulator changes nevertheless.
 */
LABEL(__dune_ring_gates)
FUNC(__dune_ring_gate_svm)
	test	$DUNE_IOPL, %r11d
	jnz	from_ring3
	jmp	__dune_syscall_svm
END(__dune_ring_gate_svm)

/* Ring 3 may come here, whether or not it has been in use before. */
FUNC(__dune_hook_gate)
	test	$DUNE_IOPL, %r11d
	jnz	from_ring3
	jmp	__dune_hook_call
END(__dune_hook_gate)

FUNC(__dune_ring_gate_vmx)
	test	$DUNE_IOPL, %r11d
	jnz	from_ring3
END(__dune_ring_gate_vmx)

/* Falls through, one jump less.  No ring 3 from here on: on_entry() in ring.c. */
LABEL(__dune_syscall_vmx)
	vmcall
	jmp	*%rcx

FUNC(__dune_syscall_svm)
	vmmcall
	jmp	*%rcx
END(__dune_syscall_svm)

FUNC(__dune_ring_call)
LABEL(__dune_ring_begin)
from_ring3:
	swapgs
LABEL(__dune_ring_swapped)
	mov	%rsp, %gs:PC_USER_RSP
LABEL(__dune_ring_saved)
	mov	%gs:PC_RING0_RSP, %rsp
	pushq	$(GD_UD_RPL3)
	pushq	%gs:PC_USER_RSP
	push	%r11
	pushq	$(GD_UT_RPL3)
	push	%rcx
	pushq	$0
	push	%rax
	push_registers rcx=%r10
	rdfsbase %rax
LABEL(__dune_ring_clobbered)
	mov	%rax, %gs:PC_USER_FS
	mov	%gs:PC_RING0_FS, %rax
	wrfsbase %rax
LABEL(__dune_ring_based)
	mov	__dune_xsave_mask(%rip), %eax
	xsave64	TF_SIZE + RING_FPU(%rsp)	/* edx: no feature has a bit there */
	mov	%rsp, %rdi
	call	*__dune_syscall_call(%rip)
	mov	__dune_xsave_mask(%rip), %eax
	xrstor64 TF_SIZE + RING_FPU(%rsp)

	/* rsp: the frame, on the ring-0 stack; GS: percpu */
LABEL(__dune_ring_exit)
	orl	$DUNE_USER_IOPL, TF_RFLAGS(%rsp)
	mov	%gs:PC_USER_FS, %rax
	wrfsbase %rax
	mov	TF_RDI(%rsp), %rdi
	mov	TF_RSI(%rsp), %rsi
	mov	TF_RDX(%rsp), %rdx
	mov	TF_RCX(%rsp), %rcx
	mov	TF_R8(%rsp), %r8
	mov	TF_R9(%rsp), %r9
	mov	TF_R10(%rsp), %r10
	mov	TF_R11(%rsp), %r11
	mov	TF_RBX(%rsp), %rbx
	mov	TF_RBP(%rsp), %rbp
	mov	TF_R12(%rsp), %r12
	mov	TF_R13(%rsp), %r13
	mov	TF_R14(%rsp), %r14
	mov	TF_R15(%rsp), %r15
	mov	TF_RAX(%rsp), %rax
	lea	TF_RIP(%rsp), %rsp
LABEL(__dune_ring_framed)
	swapgs
LABEL(__dune_ring_iretq)
	iretq
LABEL(__dune_ring_done)
END(__dune_ring_call)

/*
 * int __dune_ring_enter(struct dune_percpu *pc, const struct dune_tf *tf)
 *
 * Returns what __dune_ring_return() is given.  What it saves, from ring_frame up:
 */
#define RF_MXCSR	0
#define RF_FPCW		4

FUNC(__dune_ring_enter)
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	pushq	PC_RING0_RSP(%rdi)
	pushq	PC_RING0_FS(%rdi)
	pushq	PC_RING_FRAME(%rdi)
	pushq	PC_IST1(%rdi)
	rdgsbase %rax
	push	%rax
	push	%rax
	stmxcsr	RF_MXCSR(%rsp)
	fnstcw	RF_FPCW(%rsp)
	mov	%rsp, PC_RING_FRAME(%rdi)
	rdfsbase %rax
	mov	%rax, PC_RING0_FS(%rdi)
	wrgsbase %rdi

	mov	%rsp, %rax
	mov	__dune_fpu_size(%rip), %ecx
	sub	%rcx, %rax
	and	$-64, %rax		/* the vector registers; XRSTOR wants zeros */
	xor	%edx, %edx
	mov	%rdx, XSAVE_HEADER(%rax)
	mov	%rdx, XSAVE_HEADER + 8(%rax)
	mov	%rdx, XSAVE_HEADER + 16(%rax)
	mov	%rdx, XSAVE_HEADER + 24(%rax)
	mov	%rdx, XSAVE_HEADER + 32(%rax)
	mov	%rdx, XSAVE_HEADER + 40(%rax)
	mov	%rdx, XSAVE_HEADER + 48(%rax)
	mov	%rdx, XSAVE_HEADER + 56(%rax)
	lea	-RING_FPU(%rax), %rsp
	mov	%rsp, PC_RING0_RSP(%rdi)

	sub	$TF_SIZE, %rsp
	mov	%rsp, %rdi
	mov	$TF_SIZE / 8, %ecx
	cld
	rep movsq
	movq	$GD_UT_RPL3, TF_CS(%rsp)
	movq	$GD_UD_RPL3, TF_SS(%rsp)
	jmp	__dune_ring_exit
END(__dune_ring_enter)

/* void __dune_ring_return(struct dune_percpu *pc, int ret) */
FUNC(__dune_ring_return)
	mov	%esi, %eax
	mov	PC_RING_FRAME(%rdi), %rsp
	ldmxcsr	RF_MXCSR(%rsp)
	fldcw	RF_FPCW(%rsp)
	pop	%rdx
	pop	%rcx			/* the GS base of before */
	popq	PC_IST1(%rdi)
	popq	PC_RING_FRAME(%rdi)
	popq	PC_RING0_FS(%rdi)
	popq	PC_RING0_RSP(%rdi)
	wrgsbase %rcx
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
END(__dune_ring_return)

/* dune_pop_trap_frame() of a frame of ring 3 */
FUNC(__dune_ring_pop)
	mov	%rdi, %rsi
	mov	%gs:PC_RING0_RSP, %rsp
	sub	$TF_SIZE, %rsp
	mov	%rsp, %rdi
	mov	$TF_SIZE / 8, %ecx
	cmp	%rsi, %rdi
	jb	1f
	std				/* the frames overlap */
	lea	TF_SIZE - 8(%rsi), %rsi
	lea	TF_SIZE - 8(%rdi), %rdi
1:	rep movsq
	cld
	movq	$GD_UT_RPL3, TF_CS(%rsp)
	movq	$GD_UD_RPL3, TF_SS(%rsp)
	jmp	__dune_ring_exit
END(__dune_ring_pop)

/*
 * void dune_passthrough_syscall(struct dune_tf *tf)
 *
 * A SYSCALL like any other of ring 0's, but for clone3(), which is refused by its return
 * address (child.c): it gives the child a stack that has no frame of this function.
 */
	.globl	dune_passthrough_syscall
	.type	dune_passthrough_syscall, @function
	.balign	16
dune_passthrough_syscall:
	push	%rdi
	mov	TF_RAX(%rdi), %rax
	mov	TF_RSI(%rdi), %rsi
	mov	TF_RDX(%rdi), %rdx
	mov	TF_RCX(%rdi), %r10
	mov	TF_R8(%rdi), %r8
	mov	TF_R9(%rdi), %r9
	mov	TF_RDI(%rdi), %rdi
	syscall
LABEL(__dune_passed_through)
	pop	%rdi
	mov	%rax, TF_RAX(%rdi)
	ret
	.size	dune_passthrough_syscall, . - dune_passthrough_syscall

	.section .note.GNU-stack, "", @progbits
