/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/* The same as exceptions, linked statically: see the Makefile. */
#include "exceptions.c"
