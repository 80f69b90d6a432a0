// SPDX-License-Identifier: MIT
/*
 * A system call of ring 3, from its trap frame to its result.
 */
#include "monitor.h"

#define SYSCALL_LEN	2

_Static_assert(sizeof(struct thread) <= THREAD_SIZE, "THREAD_SIZE");
_Static_assert(offsetof(struct thread, state) == T_STATE, "T_STATE");
_Static_assert(offsetof(struct thread, pending) == T_PENDING, "T_PENDING");
_Static_assert(offsetof(struct dune_tf, pad1) == TF_PAD1, "TF_PAD1");

void handle_call(struct dune_tf *tf);
void handle_late_signal(struct dune_tf *tf);

/* No speculation behind the comparison with a number of ring 3's choice (Spectre v1). */
static inline uint64_t clamp(uint64_t nr, uint64_t size)
{
	uint64_t mask;

	__asm__ volatile("cmp %1, %2\n\tsbb %0, %0" : "=r"(mask) : "r"(size), "r"(nr) : "cc");
	return nr & mask;
}

/* The call as it stands, without asking anything more. */
long make_call(struct call *call)
{
	return forward(call, this_thread());
}

static long decide(struct call *call, struct dune_tf *tf)
{
	const struct call_spec *spec;
	long ret;

	if (call->nr >= NR_CALLS)
		return -ENOSYS;
	spec = &call_specs[clamp(call->nr, NR_CALLS)];
	if (!spec->name) {
		report("system call %lu is not known and was refused", call->nr);
		return -ENOSYS;
	}
	if (spec->refuse) {
		if (!spec->silent)
			report("%s was refused", spec->name);
		return -spec->refuse;
	}
	ret = policy_call(call, spec->name);
	if (ret)
		return ret;
	ret = spec->args ? check_arguments(spec->args, call) : 0;
	if (ret)
		return ret;
	return spec->run ? spec->run(call, tf) : make_call(call);
}

void handle_call(struct dune_tf *tf)
{
	struct call call = {
		tf->rax, { ARG0(tf), ARG1(tf), ARG2(tf), tf->r10, ARG4(tf), ARG5(tf) }
	};
	struct thread *t = this_thread();
	uint64_t nr = tf->rax;
	long ret = decide(&call, tf);

	if (ret == RESTART) {
		tf->rip -= SYSCALL_LEN;
		tf->rax = nr;
	} else {
		tf->rax = (uint64_t)ret;
	}
	if (__builtin_expect(__atomic_load_n(&t->pending, __ATOMIC_ACQUIRE), 0))
		deliver_pending(t, tf);
}

void handle_late_signal(struct dune_tf *tf)
{
	deliver_pending(this_thread(), tf);
}
