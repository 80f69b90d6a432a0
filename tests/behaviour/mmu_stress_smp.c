/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 slow */
/*
 * The same as mmu_stress with changes and accesses on different CPUs.  Slow
 * by mark, not by nature: under QEMU's TCG some runs end in a triple fault
 * whose cause is not found (docs/known-issues.md).
 */
#include "mmu_stress.c"
