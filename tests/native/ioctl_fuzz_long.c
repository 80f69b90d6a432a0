/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=600 slow=150 args=20000,2 */
/* More garbage, and another. */
#include "ioctl_fuzz.c"
