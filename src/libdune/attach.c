// SPDX-License-Identifier: MIT
/*
 * The VM of this address space.  Opened once by dune_init() and again in the
 * copy of the process, which wants the guest-physical layout of its parent: the
 * page tables that it inherited are full of it.
 *
 * Lean code: the child of a fork runs it before anything else.
 */
#include <fcntl.h>
#include <sys/syscall.h>

#include "local.h"

int dune_fd DUNE_EXPORT = -1;

/* 1 in an initialised process; Linux zeroes it in a copy (MADV_WIPEONFORK). */
uint32_t *__dune_fork_mark;

int __dune_attach(void)
{
	long fd, ret;

	fd = __dune_syscall4(SYS_openat, AT_FDCWD, "/dev/dune", O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return (int)fd;
	fd = __dune_raise_fd((int)fd);
	ret = __dune_windows_restore((int)fd);
	if (ret) {
		__dune_syscall3(SYS_close, fd, 0, 0);
		return (int)ret;
	}
	dune_fd = (int)fd;
	*__dune_fork_mark = 1;
	return 0;
}
