/* SPDX-License-Identifier: MIT */
/*
 * Exception entry in Dune mode.
 *
 * The CPU switches to an IST stack, always: the interrupted code may have a
 * red zone below its stack pointer, or no usable stack at all.  What it pushes is
 * the end of struct dune_tf, and the entry code pushes the rest.
 *
 * The short way is for an exception in ring 0 with a handler.  The frame stays
 * where it is, on a level of IST 1, with the vector registers below it; the TSS
 * is pointed at the next level, and the handler runs on the interrupted stack,
 * below the red zone.
 *
 * The long way (trap.c) is for all else: interrupts, exceptions from ring 3 and
 * from the last level, signals that wait.  The frame moves to the stack that the
 * handler runs on, which leaves the level free again: so handlers may nest without
 * bound.
 *
 * A handler that never returns (longjmp), or returns after one that it interrupted
 * (a switch of stacks), leaves the TSS at a lower level.  That costs nothing but
 * the short way, once no level is left.
 *
 * Between __dune_trap_ist and __dune_trap_ist_end the stack may be an IST.  A signal
 * or an interrupt that comes there is put off: it raises percpu->floor, and so
 * makes the long way of the short one; behind the comparison it is sent back to it.
 */
#include "asm.h"

#define T_DB		1
#define T_DF		8
#define T_PF		14
#define T_INT80		128
#define FEC_W_P		3
#define RFLAGS_IF	0x200
#define RFLAGS_FIXED	2

#define RED_ZONE	128
#define XSAVE_HEADER	512

/* From a frame on a level to its vector registers, and to the next level. */
#define LEVEL_FPU	(TF_SIZE - DUNE_LEVEL_FPU)
#define LEVEL_NEXT	(TF_SIZE - DUNE_LEVEL_SIZE)

	.text

LABEL(__dune_trap_ist)

/*
 * 256 stubs of 16 bytes.  The CPU pushes an error code for vectors 8, 10-14, 17, 21, 29, 30,
 * but not if it was an INT instruction: five words on an aligned stack, not six.
 */
	.balign	16
LABEL(__dune_trap_entries)
	.set	vec, 0
	.rept	256
	.balign	16
	.if	vec == T_PF
	jmp	page_fault
	.elseif	vec == T_INT80
	pushq	$0
	pushq	$vec
	jmp	int80
	.else
	.if	(vec == 8) || ((vec >= 10) && (vec <= 14)) || (vec == 17) || (vec == 21) || (vec == 29) || (vec == 30)
	push	%rax
	mov	$vec, %eax
	jmp	with_error
	.else
	pushq	$0
	push	%rax
	mov	$vec, %eax
	.if	(vec == DUNE_VEC_KICK) || (vec >= 32)
	jmp	long_entry
	.elseif	vec == T_DB
	jmp	suspect
	.else
	jmp	exception
	.endif
	.endif
	.endif
	.set	vec, vec + 1
	.endr

/*
 * The short way, from the full frame at rsp on: rbx becomes the frame, rsp the
 * handler's stack, r13 percpu and r15 the next level, which the handler keeps.  rax is
 * clobbered.
 */
	.macro	short_way name, long
	mov	%rsp, %r13
	and	$-DUNE_BLOCK_ALIGN, %r13
	lea	LEVEL_NEXT(%rsp), %r15
LABEL(__dune_trap_check_\name)
	cmp	PC_FLOOR(%r13), %rsp
	jb	\long
	mov	%r15, PC_IST1(%r13)
	mov	%rsp, %rbx
	mov	TF_RSP(%rbx), %rsp
LABEL(__dune_trap_checked_\name)
	sub	$RED_ZONE, %rsp
	and	$-16, %rsp
	cld
	mov	__dune_xsave_mask(%rip), %eax
	xsave64	LEVEL_FPU(%rbx)		/* edx: no feature has a bit there */
	.endm

	.balign	16
page_fault:
	push	%rax
	push_registers
	mov	%cr2, %rdi
	mov	TF_ERR(%rsp), %esi
	cmp	$FEC_W_P, %esi		/* ring 3, reserved bits, instruction fetches */
	ja	long_fault
	short_way pf, long_fault
	mov	%rbx, %rdx
LABEL(__dune_trap_call_pf)
	call	*__dune_pgflt_call(%rip)
	jmp	short_return

with_error:
	test	$8, %spl
	jnz	1f
	push	(%rsp)
	movq	$DUNE_ERR_INT, 8(%rsp)
1:	cmp	$T_DF, %eax
	je	long_entry

/*
 * What IRETQ to ring 3 may raise, or a step into the system-call gate: in the code
 * between the rings, with the registers of the other one, is no short way.
 */
suspect:
	push_registers
	mov	TF_RIP(%rsp), %rcx
	lea	__dune_ring_done(%rip), %rdx
	cmp	%rdx, %rcx
	jae	1f
	lea	__dune_ring_gates(%rip), %rdx
	cmp	%rdx, %rcx
	jae	long_way
	jmp	1f

	.balign	16
exception:
	push_registers
1:	testb	$3, TF_CS(%rsp)
	jnz	long_way
	lea	__dune_intr_call(%rip), %rdx
	mov	(%rdx,%rax,8), %rsi
	test	%rsi, %rsi
	jz	long_way
	mov	%rax, %r12		/* for the long way, and first_of_nest() */
	short_way other, long_checked
	mov	%rbx, %rdi
LABEL(__dune_trap_call_other)
	call	*%rsi

/*
 * Back from the level itself.  The TSS gives it to the next exception while it is
 * still read: there is none until IRETQ, and what interrupts this finds all registers
 * in the frame (__dune_trap_returning()).
 */
short_return:
	mov	__dune_xsave_mask(%rip), %eax
	xrstor64 LEVEL_FPU(%rbx)
	cmp	%r15, PC_IST1(%r13)
	jne	out_of_order
	mov	%rbx, %rsp
LABEL(__dune_trap_return)
	addq	$DUNE_LEVEL_SIZE, PC_IST1(%r13)
pop_frame:
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%rbx
	pop	%rbp
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	pop	%rax
	add	$8, %rsp		/* error code */
	iretq
LABEL(__dune_trap_return_end)

/*
 * A deeper exception is not done yet, or never will be: the level stays with it.  The
 * frame is moved below the red zone that the handler left us.
 */
out_of_order:
	mov	TF_RSP(%rbx), %rdi
	sub	$RED_ZONE + TF_SIZE, %rdi
	and	$-16, %rdi
	mov	%rdi, %rsp
	mov	%rbx, %rsi
	mov	$TF_SIZE / 8, %ecx
	cld
	rep movsq
	jmp	pop_frame

/* ---- the long way ----------------------------------------------------- */

long_fault:
	mov	$T_PF, %eax
	test	$8, %spl
	jz	int_fault
	mov	%rdi, %rdx		/* CR2 */
	jmp	long_way

/* INT 14: the frame lacks a word above rax. */
int_fault:
	pop	%rdi
	pop	%rsi
	pop	%rdx
	pop	%rcx
	add	$10 * 8, %rsp		/* the others are as they were */
	pushq	(%rsp)
	movq	$DUNE_ERR_INT, 8(%rsp)
	jmp	long_entry

long_checked:
	mov	%r12, %rax
	jmp	long_way

/*
 * A 32-bit system call, unless the program has a handler for it.  No stack of the
 * program's is needed, and no register is touched: the host side finds all of them as
 * they were, and what the CPU pushed here.
 */
	.balign	16
int80:
	cmpq	$0, __dune_intr_handler + 8 * T_INT80(%rip)
	jne	2f
	cmpb	$0, __dune_is_svm(%rip)
	jne	1f
	vmcall
LABEL(__dune_int80_vmx)
	ud2
1:	vmmcall
LABEL(__dune_int80_svm)
	ud2
2:	mov	%rax, (%rsp)
	mov	$T_INT80, %eax

long_entry:
	push_registers

	/* rsp: the frame, on an IST stack; rax: the vector; rdx: CR2 of a page fault */
long_way:
	pushq	$RFLAGS_FIXED		/* ring 3's IOPL and DF, and IF, would stay */
	popfq
	mov	%rsp, %rbx
	mov	%rsp, %r15
	and	$-DUNE_BLOCK_ALIGN, %r15
	sub	$DUNE_LEVEL_FPU - TF_SIZE, %rsp	/* there may be zeros to keep */
	push	%rdx
	push	%rax
	mov	%rbx, %rdi
	mov	%rsp, %rsi
	call	__dune_trap_long
	pop	%r13			/* the vector, by now */
	pop	%r14			/* CR2 */
	test	%rax, %rax
	jz	again
	mov	%rax, %rbx		/* the frame's new place */
	mov	%rdx, %rsp		/* room for the vector registers, 64-byte aligned */
LABEL(__dune_trap_ist_end)

	/* From here on everything may fault. */
	mov	%rsp, %r12
	cmpl	$0, PC_DEFERRED(%r15)
	jne	deferred_signal
no_signal:
	testl	$RFLAGS_IF, TF_RFLAGS(%rbx)
	jz	1f
	sti
1:	mov	__dune_xsave_mask(%rip), %eax
	test	%eax, %eax
	jz	fxsave

	/* XRSTOR wants a header of zeros around the bits that XSAVE sets. */
	xor	%edx, %edx
	mov	%rdx, XSAVE_HEADER(%r12)
	mov	%rdx, XSAVE_HEADER + 8(%r12)
	mov	%rdx, XSAVE_HEADER + 16(%r12)
	mov	%rdx, XSAVE_HEADER + 24(%r12)
	mov	%rdx, XSAVE_HEADER + 32(%r12)
	mov	%rdx, XSAVE_HEADER + 40(%r12)
	mov	%rdx, XSAVE_HEADER + 48(%r12)
	mov	%rdx, XSAVE_HEADER + 56(%r12)
	xsave64	(%r12)
	mov	%rbx, %rdi
	mov	%r13, %rsi
	mov	%r14, %rdx
	mov	%r15, %rcx
	call	__dune_trap
	mov	__dune_xsave_mask(%rip), %eax
	xor	%edx, %edx
	xrstor64 (%r12)

restore:
	mov	%rbx, %rsp
	testb	$3, TF_CS(%rsp)
	jz	pop_frame
	jmp	__dune_ring_exit

/* A signal came while the frame was on the IST stack. */
deferred_signal:
	mov	$DUNE_ASK_SIGNAL, %edi
	call	__dune_hypercall
	jmp	no_signal

fxsave:
	fxsave64 (%r12)
	mov	%rbx, %rdi
	mov	%r13, %rsi
	mov	%r14, %rdx
	mov	%r15, %rcx
	call	__dune_trap
	fxrstor64 (%r12)
	jmp	restore

	/* Nothing is to be handled, or not now: on with the interrupted code. */
again:
	mov	%rbx, %rsp
	jmp	pop_frame

/*
 * void dune_pop_trap_frame(struct dune_tf *tf)
 *
 * The frame for IRETQ is copied to the current stack, since *tf may lie where
 * an exception would write.
 */
	.globl	dune_pop_trap_frame
	.type	dune_pop_trap_frame, @function
	.balign	16
dune_pop_trap_frame:
	testb	$3, TF_CS(%rdi)
	jnz	__dune_ring_pop
	and	$-16, %rsp
	sub	$48, %rsp
	mov	TF_RIP(%rdi), %rax
	mov	%rax, 8(%rsp)
	movzwl	TF_CS(%rdi), %eax
	mov	%rax, 16(%rsp)
	mov	TF_RFLAGS(%rdi), %rax
	mov	%rax, 24(%rsp)
	mov	TF_RSP(%rdi), %rax
	mov	%rax, 32(%rsp)
	movzwl	TF_SS(%rdi), %eax
	mov	%rax, 40(%rsp)
	mov	TF_RDI(%rdi), %rax
	mov	%rax, (%rsp)
	mov	TF_RSI(%rdi), %rsi
	mov	TF_RDX(%rdi), %rdx
	mov	TF_RCX(%rdi), %rcx
	mov	TF_R8(%rdi), %r8
	mov	TF_R9(%rdi), %r9
	mov	TF_R10(%rdi), %r10
	mov	TF_R11(%rdi), %r11
	mov	TF_RBX(%rdi), %rbx
	mov	TF_RBP(%rdi), %rbp
	mov	TF_R12(%rdi), %r12
	mov	TF_R13(%rdi), %r13
	mov	TF_R14(%rdi), %r14
	mov	TF_R15(%rdi), %r15
	mov	TF_RAX(%rdi), %rax
	pop	%rdi
	iretq
	.size	dune_pop_trap_frame, . - dune_pop_trap_frame

	.section .note.GNU-stack, "", @progbits
