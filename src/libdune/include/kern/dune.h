/* SPDX-License-Identifier: MIT */
/*
 * Constants that programs written for Dune look for under this name; GPA_STACK_SIZE and
 * GPA_MAP_SIZE come from libdune/mmu.h.
 *
 * What is not here does not exist any more: the ioctls of /dev/dune are those of
 * libdune/uapi/dune.h, and there is no DUNE_TRAP_ENABLE, since #DB and #BP are
 * ordinary exceptions in Dune mode: handlers for T_DEBUG and T_BRKPT get them, and a
 * debugger outside sees the SIGTRAP that Linux has for them.
 */
#ifndef KERN_DUNE_H
#define KERN_DUNE_H

#include "../libdune/mmu.h"

/* Up to the next GiB. */
#define LG_ALIGN(addr)	(((addr) + (1UL << 30) - 1) & ~((1UL << 30) - 1))

#endif /* KERN_DUNE_H */
