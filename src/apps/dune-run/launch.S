/* SPDX-License-Identifier: MIT */
/*
 * The last act: put the program's stack in the place of dune-run's, and jump.
 * From here on nothing of dune-run's libc may be used: its stack is
 * overwritten, its TLS is no longer FS.
 */
#include <sys/syscall.h>

#define ARCH_SET_GS	0x1001
#define ARCH_SET_FS	0x1002
#define RFLAGS_CLEAN	0x202		/* IF and the bit that is always set */

	.text

/*
 * void launch(uint64_t to, const char *from, size_t len, uint64_t entry,
 *	       uint64_t xsave)
 *
 * @to is the new stack pointer.  All registers get what execve() gives them
 * (ELF_PLAT_INIT(), fpu_flush_thread()).
 */
	.globl	launch
	.type	launch, @function
launch:
	mov	%rdi, %r12
	mov	%rsi, %r13
	mov	%rdx, %r14
	mov	%rcx, %r15
	mov	%r8, %rbx

	mov	%rdx, %rcx
	cld
	rep movsb
	mov	%r12, %rsp

	mov	%r13, %rdi
	mov	%r14, %rsi
	mov	$SYS_munmap, %eax
	syscall
	mov	$ARCH_SET_GS, %edi
	xor	%esi, %esi
	mov	$SYS_arch_prctl, %eax
	syscall
	mov	$ARCH_SET_FS, %edi
	xor	%esi, %esi
	mov	$SYS_arch_prctl, %eax
	syscall

	mov	%ebx, %eax
	mov	%rbx, %rdx
	shr	$32, %rdx
	test	%rbx, %rbx
	jz	1f
	xrstor64 initial_state(%rip)
	jmp	2f
1:	fxrstor64 initial_state(%rip)

2:	mov	%r15, -16(%rsp)
	xor	%eax, %eax
	xor	%ebx, %ebx
	xor	%ecx, %ecx
	xor	%edx, %edx
	xor	%esi, %esi
	xor	%edi, %edi
	xor	%ebp, %ebp
	xor	%r8d, %r8d
	xor	%r9d, %r9d
	xor	%r10d, %r10d
	xor	%r11d, %r11d
	xor	%r12d, %r12d
	xor	%r13d, %r13d
	xor	%r14d, %r14d
	xor	%r15d, %r15d
	pushq	$RFLAGS_CLEAN
	popfq
	jmp	*-16(%rsp)
	.size	launch, . - launch

/*
 * For XRSTOR: an empty XSTATE_BV means that every component asked for gets its
 * initial value, but MXCSR, which comes from here (SDM 13.8.1).  For FXRSTOR:
 * the initial values themselves.
 */
	.section .rodata
	.balign	64
initial_state:
	.short	0x37f			/* FCW */
	.zero	22
	.long	0x1f80			/* MXCSR */
	.zero	576 - 28

	.section .note.GNU-stack, "", @progbits
