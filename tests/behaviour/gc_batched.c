/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/* gc_bits.c by write protection that is taken off 16 pages at a time. */
#define MODE		DUNE_GC_BATCHED
#define NEIGHBOURS	16UL
#include "gc_bits.c"
