/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 */
/* The same as vm_edit on one CPU. */
#include "vm_edit.c"
