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
#define XSAVE_HEADER	64

uint32_t __dune_frame_fpu_size = FX_SIZE;

static uint32_t mask;		/* state components; 0: FXSAVE */
static uint32_t xstate_size;

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

void __dune_frame_fpu_init(void)
{
	uint32_t r[4], lo, hi;

	cpuid(1, 0, r);
	if (!(r[2] & 1U << 27))		/* OSXSAVE */
		return;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	mask = lo & ~XCR0_AMX;
	xstate_size = FX_SIZE + XSAVE_HEADER;
	for (uint32_t i = 2; i < 32; i++) {
		if (!(mask & 1U << i))
			continue;
		cpuid(0xd, i, r);
		if (r[0] + r[1] > xstate_size)
			xstate_size = r[0] + r[1];
	}
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
