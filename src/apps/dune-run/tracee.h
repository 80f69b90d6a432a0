/* SPDX-License-Identifier: MIT */
#ifndef DUNE_RUN_TRACEE_H
#define DUNE_RUN_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

struct tracee {
	pid_t pid;
	uint64_t call;			/* a SYSCALL instruction in it */
	struct user_regs_struct initial;	/* at its first instruction */
};

void tracee_wait_exec(struct tracee *t);
int tracee_prepare(struct tracee *t);
long tracee_call(struct tracee *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		 uint64_t e, uint64_t f);
int tracee_release(struct tracee *t, uint64_t rip, uint64_t rsp, uint64_t arg);

#endif /* DUNE_RUN_TRACEE_H */
