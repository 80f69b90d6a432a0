/* SPDX-License-Identifier: MIT */
/* Function brackets for the assembly files; everything is hidden. */
#ifndef LIBDUNE_ASM_H
#define LIBDUNE_ASM_H

#include "percpu.h"

#define FUNC(name)				\
	.globl name;				\
	.hidden name;				\
	.type name, @function;			\
	.balign 16;				\
name:

#define END(name) .size name, . - name

#define LABEL(name)				\
	.globl name;				\
	.hidden name;				\
name:

/*
 * The registers below rax, in the order of struct dune_tf.  @rcx: what stands in that
 * one's place; r10 in a system call, where ARG3() finds the fourth argument.
 */
	.macro	push_registers rcx=%rcx
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%rbp
	push	%rbx
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	\rcx
	push	%rdx
	push	%rsi
	push	%rdi
	.endm

#endif /* LIBDUNE_ASM_H */
