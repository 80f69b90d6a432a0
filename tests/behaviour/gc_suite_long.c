/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=3000 slow=1800 */
/* The two of libgc's own tests that take minutes on an emulator: see gc_suite.c. */
#define LONG
#define TESTS	TEST(test, false) TEST(disclaim_weakmap_test, false)
#define SECONDS	600
#include "gc_suite.c"
