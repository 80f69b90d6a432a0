/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 slow-bochs=10 */
/* The same as libc_after_entry, linked statically: see the Makefile. */
#include "libc_after_entry.c"
