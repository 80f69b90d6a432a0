/* SPDX-License-Identifier: MIT */
/* What the library tells the monitor. */
#ifndef SANDBOX_START_H
#define SANDBOX_START_H

#include <stdint.h>

#include "policy.h"

#define MAX_PROCS	16

struct setup {
	uint64_t stack, entry;		/* ring 3's */
	const char *stack_bytes;	/* what belongs there: mapped, to be unmapped */
	uint64_t stack_len;
	int report_fd;			/* -1: none */
	int loader_fd;			/* dune-sandbox itself, for exec */
	int policy_fd;			/* the policy, for exec */
	int learn_fd;			/* where to write what is done; -1: nowhere */
	int ask_fd;			/* the callback's descriptor; -1: none */
	dune_sandbox_ask ask;		/* NULL: there is none */
	uint64_t libc_fs;		/* the FS base that libc has in the first thread */
	uint32_t nr_procs;
	char procs[MAX_PROCS][256];	/* where procfs is mounted */
};

extern struct setup setup;
extern struct policy policy;

/* In Dune mode, on the process's first stack; the arena is libdune's. */
void monitor_start(void) __attribute__((noreturn));

#endif /* SANDBOX_START_H */
