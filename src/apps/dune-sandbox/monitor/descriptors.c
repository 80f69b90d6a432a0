// SPDX-License-Identifier: MIT
/*
 * Which descriptors are not ring 3's, and how the table of descriptors stays as it is while
 * that is decided about.
 *
 * libdune makes a vCPU for each new thread.  For a moment its descriptor has the lowest
 * number that is free, and nobody has said yet whose it is: ring 3 could hand it on (dup,
 * fork, SCM_RIGHTS), map it, or put a file of its own in its place (close, dup2).  So the
 * calls that do one of these share the table, and one that makes a thread has it for itself
 * alone: table_share(), table_take().  What they look at under it is so until they are done.
 *
 * Everything else that can be done with a vCPU's descriptor needs no such care: it cannot be
 * read, written, polled or opened again, ioctl.c knows none of its ioctls, and lseek() is not
 * given its offsets.
 *
 * A process that vfork() made has a table of its own and one thread: it takes part in none
 * of this, so that its end leaves nothing taken.
 */
#include <fcntl.h>

#include "monitor.h"

#define FUTEX_WAIT_	128	/* FUTEX_WAIT | FUTEX_PRIVATE_FLAG */
#define FUTEX_WAKE_	129
#define ALL		0x7fffffff

#define TAKEN		0x80000000U
#define AWAITED		0x40000000U	/* somebody sleeps until it is free */

/* TAKEN, or how many share it; AWAITED. */
static uint32_t table;

static void sleep_on(uint32_t seen)
{
	uint32_t awaited = seen | AWAITED;

	if (seen == awaited || __atomic_compare_exchange_n(&table, &seen, awaited, false,
							   __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		sys4(SYS_futex, &table, FUTEX_WAIT_, awaited, 0);
}

/* @what: TAKEN, or 1 for one that shares it. */
static void enter(uint32_t what, uint32_t stops)
{
	uint32_t now = __atomic_load_n(&table, __ATOMIC_RELAXED);

	while (now & stops ||
	       !__atomic_compare_exchange_n(&table, &now, now + what, false, __ATOMIC_ACQUIRE,
					    __ATOMIC_RELAXED)) {
		if (now & stops)
			sleep_on(now);
		now = __atomic_load_n(&table, __ATOMIC_RELAXED);
	}
}

static void leave(uint32_t what)
{
	uint32_t now = __atomic_sub_fetch(&table, what, __ATOMIC_RELEASE);

	if (now != AWAITED)
		return;
	/* Should another be in already, it finds AWAITED once more or wakes nobody in vain. */
	__atomic_compare_exchange_n(&table, &now, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
	sys3(SYS_futex, &table, FUTEX_WAKE_, ALL);
}

void table_share(void)
{
	if (!this_thread()->vforked)
		enter(1, TAKEN);
}

void table_unshare(void)
{
	if (!this_thread()->vforked)
		leave(1);
}

/* 0: it is not taken, since nobody else has this table. */
uint32_t table_take(void)
{
	if (this_thread()->vforked)
		return 0;
	enter(TAKEN, ~AWAITED);
	return 1;
}

/* Perhaps by another thread than took it. */
void table_give_back(void)
{
	leave(TAKEN);
}

/* In the copy of a process: who had it was not copied. */
void table_copied(void)
{
	table = 0;
}

/* ---- whose they are ---------------------------------------------------------------- */

static const int *const fixed[] = {
	&setup.report_fd, &setup.loader_fd, &setup.policy_fd, &setup.learn_fd, &setup.ask_fd,
};
#define NR_FIXED	(sizeof(fixed) / sizeof(fixed[0]))

/* The least of them: nearly all that ring 3 names lie below. */
static int fixed_from = INT32_MAX;

void descriptors_init(void)
{
	for (unsigned int i = 0; i < NR_FIXED; i++)
		if (*fixed[i] >= 0 && *fixed[i] < fixed_from)
			fixed_from = *fixed[i];
}

static bool is_fixed(int fd)
{
	if (fd < fixed_from)
		return false;
	for (unsigned int i = 0; i < NR_FIXED; i++)
		if (fd == *fixed[i])
			return true;
	return false;
}

#define NR_HELD		65536
#define WORD(fd)	((uint32_t)(fd) / 64)
#define BIT(fd)		(1UL << ((uint32_t)(fd) % 64))

/* What the monitor opened in the name of ring 3, which must not name it: hold.c. */
static uint64_t held[NR_HELD / 64];

/* False: a number so large is not kept. */
bool mark_held(long fd)
{
	if (fd >= NR_HELD)
		return false;
	__atomic_or_fetch(&held[WORD(fd)], BIT(fd), __ATOMIC_ACQ_REL);
	return true;
}

void unmark_held(long fd)
{
	__atomic_and_fetch(&held[WORD(fd)], ~BIT(fd), __ATOMIC_ACQ_REL);
}

static bool is_held(int fd)
{
	return fd < NR_HELD && __atomic_load_n(&held[WORD(fd)], __ATOMIC_ACQUIRE) & BIT(fd);
}

/* In the copy of a process: what other threads held there. */
void forget_held(void)
{
	for (uint32_t i = 0; i < NR_HELD / 64; i++)
		while (held[i]) {
			long fd = 64L * i + __builtin_ctzl(held[i]);

			sys1(SYS_close, fd);
			unmark_held(fd);
		}
}

bool is_own_fd(uint64_t fd)
{
	int n = (int)fd;

	return n >= 0 && (dune_is_own_fd(n) || is_fixed(n) || is_held(n));
}

/*
 * The lowest of the monitor's descriptors from @first on; beyond all: 1 << 32.  libdune's
 * own are not among them: close_range() of its passes those over.
 */
uint64_t next_own_fd(uint64_t first)
{
	uint64_t best = 1UL << 32;

	for (unsigned int i = 0; i < NR_FIXED; i++)
		if (*fixed[i] >= 0 && (uint64_t)*fixed[i] >= first && (uint64_t)*fixed[i] < best)
			best = (uint64_t)*fixed[i];
	for (uint64_t fd = first; fd < NR_HELD && fd < best; ) {
		uint64_t word = __atomic_load_n(&held[WORD(fd)], __ATOMIC_ACQUIRE) &
				~(BIT(fd) - 1);

		if (word)
			return (fd & ~63UL) + (uint64_t)__builtin_ctzl(word) < best ?
			       (fd & ~63UL) + (uint64_t)__builtin_ctzl(word) : best;
		fd = (fd | 63) + 1;
	}
	return best;
}

/* ---- the monitor's own calls on numbers that ring 3 can name -------------------------- */

/* A second descriptor, @cmd says which kind, of what must be ring 3's. */
long duplicate(int fd, int cmd)
{
	long ret;

	table_share();
	ret = is_own_fd((uint64_t)fd) ? -EBADF : sys3(SYS_fcntl, fd, cmd, 3);
	table_unshare();
	return ret;
}

/* The same, and ring 3 cannot name it. */
long duplicate_held(int fd)
{
	long ret;

	table_share();
	ret = is_own_fd((uint64_t)fd) ? -EBADF : sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	if (!failed(ret) && !mark_held(ret)) {
		sys1(SYS_close, ret);
		ret = -EMFILE;
	}
	table_unshare();
	return ret;
}

/* Ring 3 may have closed it meanwhile, and the number be another's. */
void close_unheld(long fd)
{
	table_share();
	if (!is_own_fd((uint64_t)fd))
		sys1(SYS_close, fd);
	table_unshare();
}

/*
 * A call of ring 3's that names descriptors: what check_arguments() found before may have
 * changed.
 */
long call_on_table(struct call *call, const char *args)
{
	long ret;

	table_share();
	ret = check_arguments(args, call);
	if (!ret)
		ret = make_call(call);
	table_unshare();
	return ret;
}
