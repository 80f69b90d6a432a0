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

/*
 * The folder that the device was found in.  A process may fork where the path
 * leads nowhere: after chroot() or pivot_root(), or under another /dev.
 */
int __dune_dev_fd = -1;

static long open_own(int folder, const char *path, int flags)
{
	long fd = __dune_make_fd(SYS_openat, folder, (long)path, flags | O_CLOEXEC, 0);

	return fd < 0 ? fd : __dune_raise_fd((int)fd);
}

int __dune_attach(void)
{
	long fd, ret;

	if (__dune_dev_fd < 0) {
		fd = open_own(AT_FDCWD, "/dev", O_PATH | O_DIRECTORY);
		if (fd < 0)
			return (int)fd;
		__dune_dev_fd = (int)fd;
	}
	fd = open_own(__dune_dev_fd, "dune", O_RDWR);
	if (fd < 0)
		return (int)fd;
	ret = __dune_windows_restore((int)fd);
	if (ret) {
		__dune_own3(SYS_close, fd, 0, 0);
		return (int)ret;
	}
	dune_fd = (int)fd;
	*__dune_fork_mark = 1;
	return 0;
}
