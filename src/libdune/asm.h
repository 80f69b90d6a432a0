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

#endif /* LIBDUNE_ASM_H */
