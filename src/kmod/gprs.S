/* SPDX-License-Identifier: GPL-2.0-only */
/* Macros for the entry code of both vendors; included, not assembled. */

#include "regs.h"

/* Move what neither side needs as an address: all but rax, rsi, rdi, rsp. */
.macro LOAD_GPRS from:req
	mov	REGS_RCX(\from), %rcx
	mov	REGS_RDX(\from), %rdx
	mov	REGS_RBX(\from), %rbx
	mov	REGS_RBP(\from), %rbp
	mov	REGS_R8(\from), %r8
	mov	REGS_R9(\from), %r9
	mov	REGS_R10(\from), %r10
	mov	REGS_R11(\from), %r11
	mov	REGS_R12(\from), %r12
	mov	REGS_R13(\from), %r13
	mov	REGS_R14(\from), %r14
	mov	REGS_R15(\from), %r15
.endm

.macro SAVE_GPRS to:req
	mov	%rcx, REGS_RCX(\to)
	mov	%rdx, REGS_RDX(\to)
	mov	%rbx, REGS_RBX(\to)
	mov	%rbp, REGS_RBP(\to)
	mov	%r8, REGS_R8(\to)
	mov	%r9, REGS_R9(\to)
	mov	%r10, REGS_R10(\to)
	mov	%r11, REGS_R11(\to)
	mov	%r12, REGS_R12(\to)
	mov	%r13, REGS_R13(\to)
	mov	%r14, REGS_R14(\to)
	mov	%r15, REGS_R15(\to)
.endm

/* No guest value may steer what runs speculatively from here on: all but rax. */
.macro CLEAR_GPRS
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%ebx, %ebx
	xor	%ebp, %ebp
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
.endm
