/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 slow=200 */
/* mem_stress for a minute. */
#define SECONDS	60
#include "mem_stress.c"
