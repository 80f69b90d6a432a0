/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 smp slow-bochs=34 */
/* The same as mmu_stress with changes and accesses on different CPUs. */
#include "mmu_stress.c"
