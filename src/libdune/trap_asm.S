/* SPDX-License-Identifier: MIT */
/*
 * Exception entry in Dune mode.
 *
 * The CPU switches to the thread's IST stack, always: the interrupted code
 * may have a red zone below its stack pointer, or no usable stack at all.
 * From there the frame moves to the interrupted stack, below the red zone, so
 * that handlers may fault, nest without bound, and leave by longjmp().
 *
 *	IST stack ->	vector, error code (0 if the CPU has none), rip, cs,
 *			rflags, rsp, ss
 *	stack ->	rsp+8 CR2, rsp+16 vector, rsp+24 struct dune_tf
 *
 * Between __dune_trap_ist and __dune_trap_ist_end another exception would
 * load the same stack pointer and destroy the frame.  The gates clear IF; the
 * stack was checked against the page tables (__dune_stack_check) before it is
 * touched; a page that the second stage lacks is the module's business; and
 * percpu->moving tells a nested exception that the rest is lost.
 */
#include "asm.h"

#define IST_VECTOR	24
#define IST_ERR		32
#define IST_RIP		40
#define IST_CS		48
#define IST_RFLAGS	56
#define IST_RSP		64
#define IST_SS		72

#define T_DF		8
#define T_PF		14
#define T_INT80		128
#define FEC_P		1
#define RFLAGS_IF	0x200

#define ST_CR2		8	/* on the interrupted stack */
#define ST_VECTOR	16
#define ST_TF		24
#define RED_ZONE	128

#define XSAVE_HEADER	512

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
	.if	(vec == 8) || ((vec >= 10) && (vec <= 14)) || (vec == 17) || (vec == 21) || (vec == 29) || (vec == 30)
	test	$8, %spl
	jz	1f
	pushq	$DUNE_ERR_INT
1:
	.else
	pushq	$0
	.endif
	pushq	$vec
	.if	vec == T_DF
	jmp	double_fault
	.elseif	vec == T_PF
	jmp	page_fault
	.elseif	vec == T_INT80
	jmp	int80
	.else
	jmp	common
	.endif
	.set	vec, vec + 1
	.endr

	.balign	16
page_fault:
	push	%rax
	push	%rcx
	push	%rdx
	mov	%cr2, %rax
	testb	$FEC_P, IST_ERR(%rsp)
	jz	not_present
	jmp	find_percpu

	/*
	 * A 32-bit system call, unless the program has a handler for it.  No stack
	 * of the program's is needed, and no register is touched: the host side
	 * finds all of them as they were, and what the CPU pushed here.
	 */
	.balign	16
int80:
	cmpq	$0, __dune_intr_handler + 8 * T_INT80(%rip)
	jne	common
	cmpb	$0, __dune_is_svm(%rip)
	jne	1f
	vmcall
LABEL(__dune_int80_vmx)
	ud2
1:	vmmcall
LABEL(__dune_int80_svm)
	ud2

	.balign	16
common:
	push	%rax
	push	%rcx
	push	%rdx
	xor	%eax, %eax		/* no CR2 */

find_percpu:
	mov	%rsp, %rdx
	and	$-DUNE_BLOCK_ALIGN, %rdx
	cmpl	$0, PC_MOVING(%rdx)
	jne	lost
	mov	IST_RSP(%rsp), %rcx
	push	%rax			/* CR2 */
	lea	-512(%rcx), %rax
	shr	$30, %rax
	cmp	PC_STACK_GIB(%rdx), %rax
	jne	check_stack
	mov	%rcx, %rax
	shr	$30, %rax
	cmp	PC_STACK_GIB(%rdx), %rax
	jne	check_stack

	/* rcx: the interrupted rsp.  CR2 is on top: the IST_ offsets are 8 more. */
move:
	sub	$RED_ZONE, %rcx
	and	$-16, %rcx
	sub	$TF_SIZE + ST_TF, %rcx
	movl	$1, PC_MOVING(%rdx)
	mov	8 + IST_SS(%rsp), %rax
	mov	%rax, ST_TF + TF_SS(%rcx)
	mov	8 + IST_RSP(%rsp), %rax
	mov	%rax, ST_TF + TF_RSP(%rcx)
	mov	8 + IST_RFLAGS(%rsp), %rax
	mov	%rax, ST_TF + TF_RFLAGS(%rcx)
	mov	8 + IST_CS(%rsp), %rax
	mov	%rax, ST_TF + TF_CS(%rcx)
	mov	8 + IST_RIP(%rsp), %rax
	mov	%rax, ST_TF + TF_RIP(%rcx)
	mov	8 + IST_ERR(%rsp), %rax
	mov	%rax, ST_TF + TF_ERR(%rcx)
	mov	8 + IST_VECTOR(%rsp), %rax
	mov	%rax, ST_VECTOR(%rcx)
	pop	%rax
	mov	%rax, ST_CR2(%rcx)
	pop	%rax
	mov	%rax, ST_TF + TF_RDX(%rcx)
	pop	%rax
	mov	%rax, ST_TF + TF_RCX(%rcx)
	pop	%rax
	mov	%rax, ST_TF + TF_RAX(%rcx)
	movl	$0, PC_MOVING(%rdx)
	mov	%rcx, %rsp
LABEL(__dune_trap_ist_end)

	/* From here on everything may fault. */
	mov	%rdi, ST_TF + TF_RDI(%rsp)
	mov	%rsi, ST_TF + TF_RSI(%rsp)
	mov	%r8, ST_TF + TF_R8(%rsp)
	mov	%r9, ST_TF + TF_R9(%rsp)
	mov	%r10, ST_TF + TF_R10(%rsp)
	mov	%r11, ST_TF + TF_R11(%rsp)
	mov	%rbx, ST_TF + TF_RBX(%rsp)
	mov	%rbp, ST_TF + TF_RBP(%rsp)
	mov	%r12, ST_TF + TF_R12(%rsp)
	mov	%r13, ST_TF + TF_R13(%rsp)
	mov	%r14, ST_TF + TF_R14(%rsp)
	mov	%r15, ST_TF + TF_R15(%rsp)
	cmpl	$0, PC_DEFERRED(%rdx)
	jne	deferred_signal
no_signal:
	testl	$RFLAGS_IF, ST_TF + TF_RFLAGS(%rsp)
	jz	1f
	sti
1:	cld

	mov	%rsp, %rbx
	mov	__dune_fpu_size(%rip), %eax
	sub	%rax, %rsp
	and	$-64, %rsp
	mov	__dune_xsave_mask(%rip), %eax
	mov	%eax, %r12d
	test	%eax, %eax
	jz	fxsave

	/* XRSTOR wants a header of zeros around the bits that XSAVE sets. */
	xor	%edx, %edx
	mov	%rdx, XSAVE_HEADER(%rsp)
	mov	%rdx, XSAVE_HEADER + 8(%rsp)
	mov	%rdx, XSAVE_HEADER + 16(%rsp)
	mov	%rdx, XSAVE_HEADER + 24(%rsp)
	mov	%rdx, XSAVE_HEADER + 32(%rsp)
	mov	%rdx, XSAVE_HEADER + 40(%rsp)
	mov	%rdx, XSAVE_HEADER + 48(%rsp)
	mov	%rdx, XSAVE_HEADER + 56(%rsp)
	xsave64	(%rsp)
	lea	ST_TF(%rbx), %rdi
	mov	ST_VECTOR(%rbx), %rsi
	mov	ST_CR2(%rbx), %rdx
	call	__dune_trap
	mov	%r12d, %eax
	xor	%edx, %edx
	xrstor64 (%rsp)

restore:
	lea	ST_TF(%rbx), %rsp
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

/* A signal came while the frame was on the IST stack. */
deferred_signal:
	mov	%rsp, %rbp
	and	$-16, %rsp
	mov	$DUNE_ASK_SIGNAL, %edi
	call	__dune_hypercall
	mov	%rbp, %rsp
	jmp	no_signal

fxsave:
	fxsave64 (%rsp)
	lea	ST_TF(%rbx), %rdi
	mov	ST_VECTOR(%rbx), %rsi
	mov	ST_CR2(%rbx), %rdx
	call	__dune_trap
	fxrstor64 (%rsp)
	jmp	restore

/*
 * A page fault on something not present, CR2 in rax: most often a GiB that
 * the program touches for the first time.
 */
not_present:
	push	%rdi
	push	%rsi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%rbx
	push	%rbp
	mov	%rsp, %rbp
	mov	%rax, %rbx
	mov	%rax, %rdi
	mov	8*8 + IST_ERR(%rsp), %rsi
	and	$-16, %rsp
	cld
	call	__dune_window_fault
	mov	%rbp, %rsp
	test	%rax, %rax
	mov	%rbx, %rax		/* CR2 again */
	pop	%rbp
	pop	%rbx
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rsi
	pop	%rdi
	jz	find_percpu
	mov	%rsp, %rdx
	and	$-DUNE_BLOCK_ALIGN, %rdx
	cmpl	$0, PC_DEFERRED(%rdx)
	jne	2f
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp		/* vector, error code */
	iretq
	/* A signal waits: take the long way, where it is delivered. */
2:	movq	$DUNE_VEC_NONE, IST_VECTOR(%rsp)
	jmp	find_percpu

/* rcx: the interrupted rsp, rdx: percpu; CR2 is pushed */
check_stack:
	push	%rdi
	push	%rsi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%rbx
	push	%rbp
	push	%rcx
	push	%rdx
	mov	%rsp, %rbp
	mov	%rdx, %rdi
	mov	%rcx, %rsi
	and	$-16, %rsp
	cld
	call	__dune_stack_check
	mov	%rbp, %rsp
	pop	%rdx
	pop	%rcx
	pop	%rbp
	pop	%rbx
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rsi
	pop	%rdi
	test	%rax, %rax
	jnz	move
	pop	%rax
	jmp	lost

/*
 * Nowhere to go with it: the host side decides.  All registers are the program's but
 * those on the stack here: rdx, rcx, rax, then what the CPU pushed.
 */
double_fault:
	cmpq	$DUNE_ERR_INT, 8(%rsp)
	je	common
	push	%rax
	push	%rcx
	push	%rdx
lost:
	mov	%cr2, %rax
	cmpb	$0, __dune_is_svm(%rip)
	jne	1f
	vmcall
LABEL(__dune_lost_vmx)
	ud2
1:	vmmcall
LABEL(__dune_lost_svm)
	ud2

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
