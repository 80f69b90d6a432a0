// SPDX-License-Identifier: MIT
/*
 * How much vector state a trap must save.
 */
#include <cpuid.h>

#include "local.h"

uint32_t __dune_xsave_mask;
uint32_t __dune_fpu_size = 512;		/* FXSAVE: SDM 10.5.1 */

#define XSAVE_HEADER_END	576	/* legacy area and header, SDM 13.4 */
#define CPUID_OSXSAVE		(1U << 27)

/*
 * State components that are no vector registers of compiled code: PKRU, which
 * a handler may want to change for good, and AMX tiles, 8 KB that no compiler
 * touches by itself.
 */
#define XCR0_LEFT_ALONE		(1U << 9 | 1U << 17 | 1U << 18)

uint32_t __dune_xcr0(void)
{
	uint32_t eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & CPUID_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return eax;
}

/* The standard form of the area (SDM 13.4.3): each component at its offset. */
uint32_t __dune_xsave_size(uint32_t mask)
{
	uint32_t eax, ebx, ecx, edx, size = XSAVE_HEADER_END;

	for (unsigned int i = 2; i < 32; i++) {
		if (!(mask & 1U << i))
			continue;
		__cpuid_count(0xd, i, eax, ebx, ecx, edx);
		if (ebx + eax > size)
			size = ebx + eax;
	}
	return size;
}

void __dune_fpu_init(void)
{
	__dune_xsave_mask = __dune_xcr0() & ~XCR0_LEFT_ALONE;
	if (__dune_xsave_mask)
		__dune_fpu_size = (__dune_xsave_size(__dune_xsave_mask) + 63) & ~63U;
}
