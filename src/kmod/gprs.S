/* SPDX-License-Identifier: GPL-2.0-only */
/* Macros for the entry code of both vendors; included, not assembled. */

#include "regs.h"

/* Move what neither side needs as an address: all but rax, rsi, rdi, rsp. */
.macro LOAD_GPRS from:req
	mov	REGS_RCX(\from), %rcx
	mov	REGS_RDX(\from), %rdx
	mov	REGS_RBX(\from), %rbx
	mov	REGS_RBP(\from), %rbp
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	8 * \n(\from), %r\n
	.endr
.endm

.macro SAVE_GPRS to:req
	mov	%rcx, REGS_RCX(\to)
	mov	%rdx, REGS_RDX(\to)
	mov	%rbx, REGS_RBX(\to)
	mov	%rbp, REGS_RBP(\to)
	.irp	n, 8, 9, 10, 11, 12, 13, 14, 15
	mov	%r\n, 8 * \n(\to)
	.endr
.endm

/*
 * The kernel's FILL_RETURN_BUFFER without its loop, of which three steps in five are
 * not calls.  No register is touched.
 */
.macro FILL_RSB
	.rept	RSB_CLEAR_LOOPS - 1
	__FILL_RETURN_SLOT
	.endr
	add	$8 * (RSB_CLEAR_LOOPS - 1), %rsp
.Lrsb_one:
	__FILL_ONE_RETURN
#ifdef CREDIT_CALL_DEPTH
	CREDIT_CALL_DEPTH
#endif
.Lrsb_done:
.endm

/* No guest value may steer what runs speculatively from here on: all but rax. */
.macro CLEAR_GPRS
	.irp	reg, ecx, edx, ebx, ebp, esi, edi, r8d, r9d, r10d, r11d, r12d, r13d, r14d, r15d
	xor	%\reg, %\reg
	.endr
.endm
