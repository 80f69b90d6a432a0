/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=3000 slow=1800 */
/* Ten thousand crashes of all kinds. */
#define ROUNDS 625
#include "crash.c"
