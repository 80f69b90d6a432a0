// SPDX-License-Identifier: MIT
/* The same, with headers that ask for it (see the Makefile). */
#include "code.c"
