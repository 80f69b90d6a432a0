// SPDX-License-Identifier: MIT
/*
 * libdune's own descriptors: out of the program's way, above the numbers that
 * it may have, and to be had even if the program has used up or lowered its
 * limit.
 *
 * Lean code.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "local.h"

#define FIRST_OWN	768
#define LAST_OWN	0x4000

static uint32_t room_lock;

static long limit(const struct rlimit *new, struct rlimit *old)
{
	return __dune_syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, new, old);
}

/*
 * Raise the limit for a moment.  Only the superuser can go above the hard one.
 * Other threads may see it; no two of libdune's change it at a time.
 */
static bool make_room(struct rlimit *old)
{
	struct rlimit more = { LAST_OWN, LAST_OWN };
	uint32_t free = 0;

	while (!__atomic_compare_exchange_n(&room_lock, &free, 1, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		__dune_own3(SYS_sched_yield, 0, 0, 0);
		free = 0;
	}
	if (!limit(NULL, old) && old->rlim_cur < LAST_OWN) {
		if (old->rlim_max > more.rlim_max)
			more.rlim_max = old->rlim_max;
		if (!limit(&more, NULL))
			return true;
		more.rlim_cur = more.rlim_max = old->rlim_max;
		if (old->rlim_max > old->rlim_cur && !limit(&more, NULL))
			return true;
	}
	__atomic_store_n(&room_lock, 0, __ATOMIC_RELEASE);
	return false;
}

static void give_back(const struct rlimit *old)
{
	limit(old, NULL);
	__atomic_store_n(&room_lock, 0, __ATOMIC_RELEASE);
}

/* In the copy of a process: whoever held the lock was not copied. */
void __dune_descriptors_copied(void)
{
	room_lock = 0;
}

/* A system call that makes a descriptor. */
long __dune_make_fd(long nr, long a, long b, long c, long d)
{
	long fd = __dune_syscall4(nr, a, b, c, d);
	struct rlimit old;

	if (fd != -EMFILE || !make_room(&old))
		return fd;
	fd = __dune_syscall4(nr, a, b, c, d);
	if (fd >= 0)
		fd = __dune_raise_fd_to((int)fd, FIRST_OWN);
	give_back(&old);
	return fd;
}

/* Move @fd to @floor or above; @fd itself if that cannot be. */
int __dune_raise_fd_to(int fd, int floor)
{
	long high;

	if (fd >= floor)
		return fd;
	high = __dune_own3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, floor);
	if (high < 0)
		return fd;
	__dune_own3(SYS_close, fd, 0, 0);
	return (int)high;
}

/* Programs expect the lowest free descriptor to be theirs. */
int __dune_raise_fd(int fd)
{
	static const int lower[] = { 192, 48 };
	struct rlimit old;

	fd = __dune_raise_fd_to(fd, FIRST_OWN);
	if (fd < FIRST_OWN && make_room(&old)) {
		fd = __dune_raise_fd_to(fd, FIRST_OWN);
		give_back(&old);
	}
	for (unsigned int i = 0; i < sizeof(lower) / sizeof(lower[0]); i++)
		fd = __dune_raise_fd_to(fd, lower[i]);
	return fd;
}
