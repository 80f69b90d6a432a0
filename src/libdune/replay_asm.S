/* SPDX-License-Identifier: MIT */
/*
 * Refused accesses, made again as an ordinary process makes them: Linux then
 * grows the stack, waits for userfaultfd, or raises SIGSEGV or SIGBUS with
 * the siginfo of the original access.
 */
#include "asm.h"

	.text

/* void __dune_replay_read(uint64_t hva) */
FUNC(__dune_replay_read)
	movb	(%rdi), %al
	ret
END(__dune_replay_read)

/* void __dune_replay_write(uint64_t hva): a write that changes nothing, atomically */
FUNC(__dune_replay_write)
	lock orb $0, (%rdi)
	ret
END(__dune_replay_write)

	.section .note.GNU-stack, "", @progbits
