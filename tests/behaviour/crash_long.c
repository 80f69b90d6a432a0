/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=6000 slow=700 slow-bochs=1700 */
/* Ten thousand crashes of all kinds. */
#define ROUNDS 589	/* of 17 kinds */
#include "crash.c"
