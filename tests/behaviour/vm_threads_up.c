/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 */
/* The same as vm_threads on one CPU. */
#include "vm_threads.c"
