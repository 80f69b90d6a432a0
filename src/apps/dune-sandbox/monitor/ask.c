// SPDX-License-Identifier: MIT
/*
 * The callback of the program that this is linked into.
 *
 * It is compiled as any other code: it uses the vector registers, which are ring 3's, and TLS,
 * which nobody has here.  So the ones are put aside, and FS leads to what libc made for the
 * first thread.  That is one area, so one callback runs at a time; and a fork() waits for it,
 * since the copy of a callback that is half done would never be ended.
 */
#include <time.h>

#include "monitor.h"

#define FUTEX_WAIT_	128	/* FUTEX_WAIT | FUTEX_PRIVATE_FLAG */
#define FUTEX_WAKE_	129

static uint32_t owner;		/* the thread's number; 0: free */

/* A process that vfork() made may have been killed here, in memory that goes on. */
static bool is_gone(uint32_t tid)
{
	return sys2(SYS_tkill, tid, 0) == -ESRCH;
}

void ask_take(void)
{
	const struct timespec second = { .tv_sec = 1 };
	uint32_t own = (uint32_t)sys0(SYS_gettid), now = 0;

	if (!setup.ask)
		return;
	while (!__atomic_compare_exchange_n(&owner, &now, own, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		if (!now || (is_gone(now) &&
			     __atomic_compare_exchange_n(&owner, &now, 0, false, __ATOMIC_RELAXED,
							 __ATOMIC_RELAXED))) {
			now = 0;
			continue;
		}
		sys4(SYS_futex, &owner, FUTEX_WAIT_, now, &second);
		now = 0;
	}
}

/* Also in the copy of a process, whose thread has another number. */
void ask_give_back(void)
{
	if (!setup.ask)
		return;
	__atomic_store_n(&owner, 0, __ATOMIC_RELEASE);
	sys3(SYS_futex, &owner, FUTEX_WAKE_, 1);
}

enum verdict ask(struct dune_sandbox_request *q, const struct decision *d)
{
	struct fpu_area vectors;
	enum dune_sandbox_verdict answer;

	if (!setup.ask) {
		report("nobody is there who could be asked");
		return DENY;
	}
	q->pid = (int)sys0(SYS_getpid);
	q->tid = (int)sys0(SYS_gettid);
	q->policy = policy.file;
	q->line = d->line;
	q->fd = setup.ask_fd;
	ask_take();
	dune_fpu_save_safe(&vectors);
	dune_fpu_load(&fresh_fpu);
	__asm__ volatile("wrfsbase %0" : : "r"(setup.libc_fs) : "memory");
	answer = setup.ask(q, policy.data);
	__asm__ volatile("wrfsbase %0" : : "r"(0UL) : "memory");
	dune_fpu_load(&vectors);
	ask_give_back();
	return answer == DUNE_SANDBOX_ALLOW ? ALLOW : answer == DUNE_SANDBOX_KILL ? KILL : DENY;
}
