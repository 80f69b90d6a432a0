/* SPDX-License-Identifier: MIT */
/* What gnulib's tests link besides the C library, as it is on Linux. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

int gl_sockets_startup(int version)
{
	(void)version;
	return 0;
}

int gl_sockets_cleanup(void)
{
	return 0;
}

bool cannot_unlink_dir(void)
{
	return true;
}

int dup_cloexec(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

int set_cloexec_flag(int fd, bool value)
{
	return fcntl(fd, F_SETFD, value ? FD_CLOEXEC : 0);
}

int get_nonblocking_flag(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 ? -1 : !!(flags & O_NONBLOCK);
}

int set_nonblocking_flag(int fd, bool value)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -1;
	return fcntl(fd, F_SETFL, value ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
}
