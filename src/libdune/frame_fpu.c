// SPDX-License-Identifier: MIT
/*
 * The vector registers in the form that a signal frame has: the standard XSAVE
 * area and, around it, the words by which rt_sigreturn knows it.  For signals
 * that libdune delivers by itself; all others bring the kernel's own copy.
 *
 * Lean code, on the host stack.
 */
#include "sigframe.h"

#define XCR0_AMX	(1U << 17 | 1U << 18)	/* not in a frame without permission */
#define FX_SIZE		512

uint32_t __dune_frame_fpu_size = FX_SIZE;

static uint32_t mask;		/* state components; 0: FXSAVE */
static uint32_t xstate_size;

void __dune_frame_fpu_init(void)
{
	mask = __dune_xcr0() & ~XCR0_AMX;
	if (!mask)
		return;
	xstate_size = __dune_xsave_size(mask);
	__dune_frame_fpu_size = (xstate_size + 4 + 63) & ~63U;
}

/* @area: __dune_frame_fpu_size bytes, aligned to 64. */
void __dune_frame_fpu_save(void *area)
{
	struct dune_fpx *x = (struct dune_fpx *)((char *)area + FPX_OFFSET);

	__dune_clear(area, __dune_frame_fpu_size);
	__dune_fpu_save(area, mask);
	if (!mask)
		return;
	x->magic1 = FPX_MAGIC1;
	x->extended_size = xstate_size + 4;
	x->xfeatures = mask;
	x->xstate_size = xstate_size;
	*(uint32_t *)((char *)area + xstate_size) = FPX_MAGIC2;
}

void __dune_frame_fpu_load(void *area)
{
	__dune_fpu_load(area, mask);
}
