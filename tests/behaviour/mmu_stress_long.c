/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 slow=120 */
/* mmu_stress for longer. */
#define ROUNDS		300
#define FREE_SECONDS	10.0
#include "mmu_stress.c"
