// SPDX-License-Identifier: MIT
/*
 * Where the variables of libdune and of the backend begin and end.  Compiled twice, and linked
 * before and behind them into one object, whose .bss is in the order of the files.
 */
#ifdef END
#define NAME	dune_gc_bss_end
#else
#define NAME	dune_gc_bss_begin
#endif

#include "dune_gc_hooks.h"

char NAME[64] __attribute__((aligned(64)));
