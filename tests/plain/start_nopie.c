// SPDX-License-Identifier: MIT
/* The same, linked as the name says (see the Makefile). */
#include "start.c"
