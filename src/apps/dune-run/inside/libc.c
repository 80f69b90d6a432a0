// SPDX-License-Identifier: MIT
/*
 * What libdune needs of a C library, and no more.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int error;

int *__errno_location(void)
{
	return &error;
}

/* libdune asks for the whereabouts of the stack, and takes its own then. */
unsigned long getauxval(unsigned long type)
{
	(void)type;
	return 0;
}

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	if (ret < 0 && ret > -4096) {
		error = (int)-ret;
		return -1;
	}
	return ret;
}

long syscall(long nr, ...)
{
	long arg[6];
	va_list ap;

	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	return call(nr, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	long arg;

	va_start(ap, request);
	arg = va_arg(ap, long);
	va_end(ap);
	return (int)call(SYS_ioctl, fd, (long)request, arg, 0, 0, 0);
}

int close(int fd)
{
	return (int)call(SYS_close, fd, 0, 0, 0, 0, 0);
}

ssize_t read(int fd, void *buf, size_t n)
{
	return call(SYS_read, fd, (long)buf, (long)n, 0, 0, 0);
}

void *mmap(void *at, size_t len, int prot, int flags, int fd, off_t offset)
{
	return (void *)call(SYS_mmap, (long)at, (long)len, prot, flags, fd, offset);
}

int munmap(void *at, size_t len)
{
	return (int)call(SYS_munmap, (long)at, (long)len, 0, 0, 0, 0);
}

int madvise(void *at, size_t len, int advice)
{
	return (int)call(SYS_madvise, (long)at, (long)len, advice, 0, 0, 0);
}

int sched_yield(void)
{
	return (int)call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

/* For forks outside Dune mode: no thread of such a process is ever there. */
int pthread_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	(void)prepare;
	(void)parent;
	(void)child;
	return 0;
}
