/* SPDX-License-Identifier: MIT */
/*
 * The module's interface without libdune, for tests that misuse it.
 */
#ifndef TESTS_RAW_H
#define TESTS_RAW_H

#include <libdune/uapi/dune.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* ioctl(), with the error as a negative number. */
__attribute__((unused)) static long raw_ioctl(int fd, unsigned long cmd, const void *arg)
{
	long ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

__attribute__((unused)) static int raw_open(void)
{
	int fd = open("/dev/dune", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* DUNE_RUN by its short way, or what lseek() has for other places. */
__attribute__((unused)) static long raw_seek(int vcpu, long offset, int whence)
{
	long ret = lseek(vcpu, offset, whence);

	return ret < 0 ? -errno : ret;
}

__attribute__((unused)) static long raw_run(int vcpu)
{
	return raw_seek(vcpu, DUNE_RUN_SEEK, SEEK_SET);
}

/*
 * The least state that DUNE_SET_STATE takes.  Its page tables lead nowhere:
 * a vCPU with it leaves guest mode at once.
 */
__attribute__((unused)) static struct dune_state raw_state(void)
{
	struct dune_state st = {
		.cr0 = 0x80000031,	/* PG NE ET PE */
		.cr4 = 0x20,		/* PAE */
		.gdt_limit = 0x4f, .tr_limit = 0x67,
		.cs = 0x10, .ss = 0x18, .tr = 0x38,
	};

	return st;
}

#endif /* TESTS_RAW_H */
