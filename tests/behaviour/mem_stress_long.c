/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=2400 slow=200 slow-bochs=1000 */
/* mem_stress for a minute. */
#define SECONDS	60
#include "mem_stress.c"
