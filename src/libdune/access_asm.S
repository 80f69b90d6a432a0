/* SPDX-License-Identifier: MIT */
/*
 * Accesses to the program's memory from the host side that may be refused.
 */
#include "asm.h"

	.text

/*
 * Refused accesses of the guest, made again as an ordinary process makes
 * them: Linux then grows the stack, waits for userfaultfd, or raises SIGSEGV or
 * SIGBUS with the siginfo of the original access.
 *
 * void __dune_replay_read(uint64_t hva)
 */
FUNC(__dune_replay_read)
	movb	(%rdi), %al
	ret
END(__dune_replay_read)

/* void __dune_replay_write(uint64_t hva): a write that changes nothing, atomically */
FUNC(__dune_replay_write)
	lock orb $0, (%rdi)
	ret
END(__dune_replay_write)

/*
 * int __dune_copy_user(void *to, const void *from, size_t n)
 *
 * 0, or -1 where Linux would say EFAULT: the signal handler sends a fault in
 * the copy to __dune_copy_refused.
 */
FUNC(__dune_copy_user)
	mov	%rdx, %rcx
	shr	$3, %rcx
LABEL(__dune_copy_words)
	rep movsq
	mov	%rdx, %rcx
	and	$7, %ecx
LABEL(__dune_copy_bytes)
	rep movsb
	xor	%eax, %eax
	ret
LABEL(__dune_copy_refused)
	mov	$-1, %eax
	ret
END(__dune_copy_user)

/*
 * void __dune_fpu_save(void *area, uint64_t mask), void __dune_fpu_load(...)
 *
 * The vector registers; mask 0: FXSAVE and FXRSTOR.
 */
FUNC(__dune_fpu_save)
	mov	%rsi, %rax
	mov	%rsi, %rdx
	shr	$32, %rdx
	test	%rsi, %rsi
	jz	1f
	xsave64	(%rdi)
	ret
1:	fxsave64 (%rdi)
	ret
END(__dune_fpu_save)

FUNC(__dune_fpu_load)
	mov	%rsi, %rax
	mov	%rsi, %rdx
	shr	$32, %rdx
	test	%rsi, %rsi
	jz	1f
	xrstor64 (%rdi)
	ret
1:	fxrstor64 (%rdi)
	ret
END(__dune_fpu_load)

	.section .note.GNU-stack, "", @progbits
