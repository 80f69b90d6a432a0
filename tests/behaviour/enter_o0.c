/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/* The same as enter, without optimisation, so that the stack is used for all: see the Makefile. */
#include "enter.c"
