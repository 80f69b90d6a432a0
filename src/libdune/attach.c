// SPDX-License-Identifier: MIT
/*
 * The VM of this address space.  Opened once by dune_init(), and asked for in the
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
 * The folder that the device was found in.  A process may want it back where the path
 * leads nowhere: after chroot() or pivot_root(), or under another /dev.
 */
int __dune_dev_fd = -1;

static long open_own(int folder, const char *path, int flags)
{
	long fd = __dune_make_fd(SYS_openat, folder, (long)path, flags | O_CLOEXEC, 0);

	return fd < 0 ? fd : __dune_raise_fd((int)fd);
}

/* @fd is the VM of this address space, a new one. */
static int adopt(int fd)
{
	long ret = __dune_windows_restore(fd);

	if (ret) {
		__dune_own3(SYS_close, fd, 0, 0);
		return (int)ret;
	}
	dune_fd = fd;
	*__dune_fork_mark = 1;
	return 0;
}

int __dune_attach(void)
{
	long fd;

	if (__dune_dev_fd < 0) {
		fd = open_own(AT_FDCWD, "/dev", O_PATH | O_DIRECTORY);
		if (fd < 0)
			return (int)fd;
		__dune_dev_fd = (int)fd;
	}
	fd = open_own(__dune_dev_fd, "dune", O_RDWR);
	return fd < 0 ? (int)fd : adopt((int)fd);
}

/*
 * In the copy of @own, by the parent's descriptor: a filter of the program's may
 * forbid to open anything.
 */
int __dune_attach_copy(struct dune_percpu *own)
{
	long fd = __dune_make_fd(SYS_ioctl, dune_fd, DUNE_NEW_VM, 0, 0);

	__dune_forget_parent(own);
	return fd < 0 ? (int)fd : adopt(__dune_raise_fd((int)fd));
}
