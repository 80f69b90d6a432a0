// SPDX-License-Identifier: MIT
/*
 * The descriptors of all vCPUs of this process, for the child of a fork to
 * close.  A table without a lock: a lock could be held when a fork copies it.
 * Lean code: the stub calls it in the child.
 */
#include <errno.h>
#include <sys/syscall.h>

#include "local.h"

#define MAX_VCPUS	4096

static int vcpu_fds[MAX_VCPUS];	/* descriptor + 1; 0 is a free place */

static bool replace(int *place, int from, int to)
{
	return __atomic_compare_exchange_n(place, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_RELAXED);
}

/* 0, or -EMFILE: the table is full. */
int __dune_track_fd(int fd)
{
	for (int i = 0; i < MAX_VCPUS; i++)
		if (replace(&vcpu_fds[i], 0, fd + 1))
			return 0;
	return -EMFILE;
}

void __dune_untrack_fd(int fd)
{
	for (int i = 0; i < MAX_VCPUS; i++)
		if (replace(&vcpu_fds[i], fd + 1, 0))
			return;
}

/* In the copy of a process: let go of the parent's VM. */
void __dune_forget_parent(void)
{
	for (int i = 0; i < MAX_VCPUS; i++) {
		int fd = vcpu_fds[i] - 1;

		if (fd >= 0 && replace(&vcpu_fds[i], fd + 1, 0))
			__dune_syscall3(SYS_close, fd, 0, 0);
	}
	if (dune_fd >= 0)
		__dune_syscall3(SYS_close, dune_fd, 0, 0);
	dune_fd = -1;
}
