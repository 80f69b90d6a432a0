/* SPDX-License-Identifier: MIT */
/*
 * `int $0x80`: a 32-bit system call, in 64-bit code too.
 */
#include "asm.h"

	.text

/*
 * void __dune_int80_call(struct dune_percpu *pc), does not return
 *
 * The call in the run page, made as the program made it: what looks at it (seccomp,
 * ptrace, the kernel's own notion of a 32-bit call) sees the same.  All registers
 * but rax survive it.  The guest stands behind its instruction; a signal that comes
 * first is delivered in front of it, and one that Linux restarts the call for too.
 */
FUNC(__dune_int80_call)
	mov	PC_HOST_RSP(%rdi), %rsp
	mov	%rdi, %r13
	mov	PC_RUN(%rdi), %r12
LABEL(__dune_int80_load)
	cmpl	$0, PC_DEFERRED(%r13)
	jne	1f
	mov	GR_RAX(%r12), %rax
	mov	GR_RBX(%r12), %rbx
	mov	GR_RCX(%r12), %rcx
	mov	GR_RDX(%r12), %rdx
	mov	GR_RSI(%r12), %rsi
	mov	GR_RDI(%r12), %rdi
	mov	GR_RBP(%r12), %rbp
LABEL(__dune_int80_insn)
	int	$0x80
LABEL(__dune_int80_done)
	mov	%rax, GR_RAX(%r12)
	jmp	2f
1:	subq	$DUNE_INT80_LEN, GR_RIP(%r12)
2:	mov	%r13, %rbx
	xor	%ebp, %ebp
	jmp	__dune_host_resume
END(__dune_int80_call)

	.section .note.GNU-stack, "", @progbits
