/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=240 smp spread=40 slow-bochs=120 */
/* shootdown.c with three other threads, on four CPUs. */
#define OTHERS	3
#define METRIC	"shootdown_3"
#include "shootdown.c"
