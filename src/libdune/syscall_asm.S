/* SPDX-License-Identifier: MIT */
/*
 * libdune's own system calls, each one hypercall as a SYSCALL's gate makes it
 * (ring_asm.S): the module hands the registers to the host stub, which makes the call
 * and puts the result in rax.  VMCALL is #UD on AMD, VMMCALL on Intel.
 */
#include "asm.h"

#define RED_ZONE	128

	.text

/* long __dune_syscall6(long nr, long a, long b, long c, long d, long e, long f) */
FUNC(__dune_syscall6)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	mov	%r8, %r10
	mov	%r9, %r8
	mov	8(%rsp), %r9
	mov	%cs, %ecx
	test	$3, %cl
	jz	1f
	syscall
	ret
1:	cmpb	$0, __dune_is_svm(%rip)
	jne	2f
	vmcall
	ret
2:	vmmcall
	ret
END(__dune_syscall6)

/*
 * In place of the other vendor's hypercall instruction, see foreign.c: the way back
 * lies below the program's red zone, and no register is touched.
 */
FUNC(__dune_foreign_vmx)
	vmcall
	ret	$RED_ZONE
END(__dune_foreign_vmx)

FUNC(__dune_foreign_svm)
	vmmcall
	ret	$RED_ZONE
END(__dune_foreign_svm)

/* long __dune_hypercall(long what, uint64_t a, uint64_t b, uint64_t c): DUNE_ASK_* */
FUNC(__dune_hypercall)
	mov	%rdi, %rax
	mov	%rsi, %rdi
	mov	%rdx, %rsi
	mov	%rcx, %rdx
	cmpb	$0, __dune_is_svm(%rip)
	jne	1f
	vmcall
LABEL(__dune_asked_vmx)
	ret
1:	vmmcall
LABEL(__dune_asked_svm)
	ret
END(__dune_hypercall)

/*
 * long __dune_gate_call(uint64_t gate, long nr, long a, long b, long c)
 *
 * A call as the program makes it, by @gate, the hypercall that the module makes fast
 * calls for.  Ring 0.
 */
FUNC(__dune_gate_call)
	mov	%rdi, %r9
	mov	%rsi, %rax
	mov	%rdx, %rdi
	mov	%rcx, %rsi
	mov	%r8, %rdx
2:	pushfq
	pop	%r11
	lea	1f(%rip), %rcx
	jmp	*%r9
	.byte	0xeb, 2b - 1f		/* a signal came first: as long as SYSCALL */
1:	ret
END(__dune_gate_call)

	.section .note.GNU-stack, "", @progbits
