// SPDX-License-Identifier: MIT
/*
 * dune_fpu_*(): the program's own copies of the vector registers.
 *
 * Compiled as lean code is, so that the registers are the caller's.
 */
#include <cpuid.h>

#include "local.h"

#define XFEATURE_PKRU	(1UL << 9)
#define XFEATURE_AMX	(3UL << 17)
#define XSAVEOPT	1U	/* CPUID 0xd, 1: eax */

#define FCW_INIT	0x37f
#define MXCSR_INIT	0x1f80

#define UNKNOWN		1UL	/* x87 alone is no mask that a CPU with XSAVE gives */

/* Written once, with the same value by whoever is first. */
static uint64_t area_mask = UNKNOWN;
static bool area_opt;

/* The components that fit; 0: no XSAVE.  A program may ask before dune_init(). */
static uint64_t mask(void)
{
	uint64_t known = __atomic_load_n(&area_mask, __ATOMIC_ACQUIRE);
	uint32_t eax, ebx, ecx, edx, features;

	if (known != UNKNOWN)
		return known;
	features = __dune_xcr0() & ~(uint32_t)(XFEATURE_PKRU | XFEATURE_AMX);
	for (uint32_t i = 2; i < 32; i++)
		if (features & 1U << i &&
		    __dune_xsave_size(1U << i) > sizeof(struct fpu_area))
			features &= ~(1U << i);
	if (features && __get_cpuid_count(0xd, 1, &eax, &ebx, &ecx, &edx))
		area_opt = eax & XSAVEOPT;
	__atomic_store_n(&area_mask, features, __ATOMIC_RELEASE);
	return features;
}

DUNE_EXPORT void dune_fpu_init(struct fpu_area *fp)
{
	__dune_clear(fp, sizeof(*fp));
	fp->xsave.fxsave.cwd = FCW_INIT;
	fp->xsave.fxsave.mxcsr = MXCSR_INIT;
}

DUNE_EXPORT void dune_fpu_load(struct fpu_area *fp)
{
	__dune_fpu_load(fp, mask());
}

DUNE_EXPORT void dune_fpu_save_safe(struct fpu_area *fp)
{
	__dune_clear(&fp->xsave.header, sizeof(fp->xsave.header));
	__dune_fpu_save(fp, mask());
}

DUNE_EXPORT void dune_fpu_save(struct fpu_area *fp)
{
	uint64_t features = mask();

	if (!features || !area_opt) {
		dune_fpu_save_safe(fp);
		return;
	}
	__asm__ volatile("xsaveopt64 %0" : "+m"(*fp) : "a"((uint32_t)features), "d"(0) : "memory");
}
