/* SPDX-License-Identifier: MIT */
/*
 * The entry of a static program that the original's sandbox runs.  To brk(0) that sandbox
 * answers where the heap begins, however far it has grown; glibc 2.41 asks twice when
 * it starts, puts the first thread's TLS and then the heap at the same place, and dies.  It
 * asks only once where it knows the break already.
 */
	.globl	brk_first
	.type	brk_first, @function
brk_first:
	mov	$12, %eax
	xor	%edi, %edi
	syscall
	mov	%rax, __curbrk(%rip)
	jmp	_start
	.size	brk_first, . - brk_first
	.section .note.GNU-stack, "", @progbits
