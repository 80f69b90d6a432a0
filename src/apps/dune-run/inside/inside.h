/* SPDX-License-Identifier: MIT */
/*
 * What inject.c puts into a program that the kernel has just loaded: libdune, and the
 * few lines that enter Dune mode and jump to the program's entry.  A file of its own
 * without libc, since the program's is not there yet.
 */
#ifndef DUNE_RUN_INSIDE_H
#define DUNE_RUN_INSIDE_H

#include <limits.h>
#include <stdint.h>

/* The argument of its entry point. */
struct inside_args {
	uint64_t sp, entry;	/* of the program, as the kernel set them */
	uint32_t verify;
	char name[16];		/* for PR_SET_NAME; "": the kernel's choice is right, */
	char path[PATH_MAX];	/* and AT_EXECFN too */
	char loader[PATH_MAX];	/* for what the program executes; "": nothing */
};

#endif /* DUNE_RUN_INSIDE_H */
