/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/* The same as enter, linked at fixed addresses (-no-pie): see the Makefile. */
#include "enter.c"
