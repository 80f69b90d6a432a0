/* SPDX-License-Identifier: MIT */
/* The file that inject.c loads into a program; see inside/inside.h. */
	.section .rodata
	.balign	16
	.globl	inside_image
	.globl	inside_image_end
inside_image:
	.incbin	"dune-run.inside"
inside_image_end:

	.section .note.GNU-stack, "", @progbits
