/* SPDX-License-Identifier: MIT */
/*
 * The monitor's assembly: where ring 3's system calls arrive, the one place where calls
 * are made for it, copying from and to its memory.
 */
#include <sys/syscall.h>

#include "offsets.h"

#define FUNC(name)	.globl name; .type name, @function; .balign 16; name:
#define LABEL(name)	.globl name; name:
#define END(name)	.size name, . - name
#define ERESTARTSYS	512
#define EFAULT		14
#define ENAMETOOLONG	36

	.text

/*
 * void ring3_call(struct dune_tf *tf)
 *
 * The state is set by the first instructions, whose place the signal handler knows.
 */
FUNC(ring3_call)
LABEL(ring3_call_first)
	mov	%rsp, %rax
	or	$(STACK_SIZE - 1), %rax
	movl	$IN_MONITOR, T_STATE + 1 - THREAD_SIZE(%rax)
	push	%rdi
	call	handle_call
	pop	%rdi
	mov	%rsp, %rax
	or	$(STACK_SIZE - 1), %rax
	movl	$FRAME_FINAL, TF_PAD1(%rdi)
	movl	$IN_RING3, T_STATE + 1 - THREAD_SIZE(%rax)
	cmpl	$0, T_PENDING + 1 - THREAD_SIZE(%rax)
	jne	1f
	ret
	/* One that came since: every signal is blocked until it is delivered. */
1:	movl	$IN_MONITOR, T_STATE + 1 - THREAD_SIZE(%rax)
	push	%rdi
	call	handle_late_signal
	pop	%rdi
	mov	%rsp, %rax
	or	$(STACK_SIZE - 1), %rax
	movl	$IN_RING3, T_STATE + 1 - THREAD_SIZE(%rax)
	ret
END(ring3_call)

/*
 * long forward(const struct call *call, const struct thread *t)
 *
 * A child that shares the memory comes out of the call on a stack of its own.
 */
FUNC(forward)
	push	%rbx
	push	%rbp
	mov	%rsp, %rbp
	mov	%rsi, %rbx
	mov	(%rdi), %rax
	mov	16(%rdi), %rsi
	mov	24(%rdi), %rdx
	mov	32(%rdi), %r10
	mov	40(%rdi), %r8
	mov	48(%rdi), %r9
	mov	8(%rdi), %rdi
LABEL(forward_check)
	cmpl	$0, T_PENDING(%rbx)
	jne	forward_restart
LABEL(forward_insn)
	syscall
	cmp	%rsp, %rbp
	jne	1f
	pop	%rbp
	pop	%rbx
	ret
LABEL(forward_restart)
	mov	$-ERESTARTSYS, %rax
	pop	%rbp
	pop	%rbx
	ret
1:	lea	START_ROOM(%rsp), %rdi	/* its struct thread */
	xor	%ebp, %ebp
	call	child_start
	ud2
END(forward)

/* With struct thread in rdi: on an empty stack, to ring 3 from the beginning. */
FUNC(start_again)
	lea	-START_ROOM(%rdi), %rsp
	xor	%ebp, %ebp
	call	thread_enter
	ud2
END(start_again)

FUNC(signal_restorer)
	mov	$SYS_rt_sigreturn, %eax
	syscall
	ud2
END(signal_restorer)

/*
 * int copy_bytes(void *to, const void *from, size_t n)
 *
 * By words, as Linux reads what consists of them: a pointer that another thread writes
 * meanwhile is the old one or the new one, not bytes of both.
 */
FUNC(copy_bytes)
	mov	%rdx, %rcx
	shr	$3, %rcx
	cld
LABEL(copy_words_insn)
	rep movsq
	mov	%edx, %ecx
	and	$7, %ecx
LABEL(copy_bytes_insn)
	rep movsb
	xor	%eax, %eax
	ret
LABEL(copy_refused)
	mov	$-EFAULT, %rax
	ret
END(copy_bytes)

/* long copy_string(char *to, const char *from, size_t n) */
FUNC(copy_string)
	xor	%eax, %eax
1:	cmp	%rdx, %rax
	jae	2f
LABEL(copy_string_insn)
	movzbl	(%rsi,%rax), %ecx
	mov	%cl, (%rdi,%rax)
	test	%cl, %cl
	jz	3f
	inc	%rax
	jmp	1b
2:	mov	$-ENAMETOOLONG, %rax
3:	ret
END(copy_string)

/* void run_on_stack(uint64_t top, void (*fn)(void *arg), void *arg) */
FUNC(run_on_stack)
	mov	%rdi, %rsp
	mov	%rdx, %rdi
	xor	%ebp, %ebp
	call	*%rsi
	ud2
END(run_on_stack)

	.section .note.GNU-stack, "", @progbits
