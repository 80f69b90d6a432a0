/* SPDX-License-Identifier: MIT */
/*
 * glibc opens files by openat(), whose number is larger than wedge's tables of calls:
 * an open() that makes the call of that name.
 */
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

int open(const char *path, int flags, ...)
{
	va_list list;
	int mode;

	va_start(list, flags);
	mode = va_arg(list, int);
	va_end(list);
	return (int)syscall(SYS_open, path, flags, mode);
}
