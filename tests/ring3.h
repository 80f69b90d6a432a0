/* SPDX-License-Identifier: MIT */
/* Code that runs in ring 3 and comes back with a number, by any system call with it in rdi. */
#ifndef TESTS_RING3_H
#define TESTS_RING3_H

#include <libdune/dune.h>

#include "ktap.h"

static void ring3_back(struct dune_tf *tf)
{
	dune_ret_from_user((int)ARG0(tf));
}

/* What the code at @start comes back with.  Takes the place of the system-call handler. */
__attribute__((unused)) static int ring3_run(const char *start)
{
	static char stack[4096] __attribute__((aligned(64)));
	struct dune_tf tf;

	memset(&tf, 0, sizeof(tf));
	tf.rip = (uint64_t)start;
	tf.rsp = (uint64_t)stack + sizeof(stack);
	tf.rflags = 2 | FL_IF;
	dune_register_syscall_handler(ring3_back);
	return dune_jump_to_user(&tf);
}

#endif /* TESTS_RING3_H */
