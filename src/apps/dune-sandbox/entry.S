/* SPDX-License-Identifier: MIT */
/*
 * Before libc's first instruction: show it a static PIE at the address where it is.
 *
 * set_base.c gave the segments in the program headers a fixed address.  Libc takes the
 * headers for those of a PIE, which begins at 0, and has to (newer ones subtract what the
 * first segment says, others do not).  So it gets a copy that says so.
 */
#include "arena.h"

#define AT_PHDR		3
#define AT_PHNUM	5
#define PT_LOAD		1
#define MAX_HEADERS	16
#define PH_SIZE		56
#define PH_VADDR	16

	.text
	.globl	sandbox_entry
	.type	sandbox_entry, @function
sandbox_entry:
	mov	%rdx, %r10
	mov	(%rsp), %rcx
	lea	16(%rsp,%rcx,8), %rsi	/* behind argv: the environment */
	cld
1:	lodsq
	test	%rax, %rax
	jnz	1b
	xor	%r8d, %r8d
	xor	%r9d, %r9d
2:	mov	(%rsi), %rax		/* the auxiliary vector */
	test	%rax, %rax
	jz	5f
	cmp	$AT_PHDR, %rax
	jne	3f
	lea	8(%rsi), %r8
3:	cmp	$AT_PHNUM, %rax
	jne	4f
	mov	8(%rsi), %r9
4:	add	$16, %rsi
	jmp	2b
5:	test	%r8, %r8
	jz	9f
	cmp	$MAX_HEADERS, %r9
	ja	9f
	mov	(%r8), %rsi
	lea	headers(%rip), %rdi
	mov	%rdi, (%r8)
	imul	$PH_SIZE, %r9, %rcx
	rep movsb
	lea	headers(%rip), %rdi
	mov	$ARENA_IMAGE, %rax
6:	test	%r9, %r9
	jz	8f
	cmpl	$PT_LOAD, (%rdi)
	jne	7f
	sub	%rax, PH_VADDR(%rdi)
7:	add	$PH_SIZE, %rdi
	dec	%r9
	jmp	6b
8:	mov	%r10, %rdx
	jmp	_start
9:	ud2
	.size	sandbox_entry, . - sandbox_entry

	.bss
	.balign	8
headers:
	.zero	MAX_HEADERS * PH_SIZE

	.section .note.GNU-stack, "", @progbits
