/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/* gc_bits.c by write protection. */
#define MODE		DUNE_GC_FAULTS
#define NEIGHBOURS	1UL
#include "gc_bits.c"
