/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * What /proc and mincore say about a Dune process's memory, what mlock does to
 * it, and writes that come through /proc/self/mem.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#include <sys/resource.h>

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT	1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT	4
#endif

#define PAGES	64
#define LEN	(PAGES * PAGE)

static long locked_kib(void)
{
	return mem_field("/proc/self/status", "VmLck");
}

static unsigned int resident(unsigned char *p)
{
	unsigned char vec[PAGES];
	unsigned int n = 0;

	if (mincore(p, LEN, vec))
		return ~0U;
	for (size_t i = 0; i < PAGES; i++)
		n += vec[i] & 1;
	return n;
}

/* Guest mode touches pages: the mm must know them as its own. */
static bool pages_appear(void)
{
	unsigned char *room = mem_new(LEN + 2 * PAGE), *p = room + PAGE;
	bool ok = resident(p) == 0;

	/* A mapping with neighbours of its kind would be merged with them. */
	ok &= mprotect(room, PAGE, PROT_NONE) == 0 && mprotect(p + LEN, PAGE, PROT_NONE) == 0;

	for (size_t i = 0; i < PAGES; i += 4)
		*(volatile unsigned char *)(p + i * PAGE) = 1;
	ok &= resident(p) == PAGES / 4 && mem_smaps(p, "Rss") >= (long)(LEN / 4 >> 10);
	for (size_t i = 0; i < PAGES; i++)
		ok &= !!(mem_pagemap(p + i * PAGE) & MEM_PM_PRESENT) == (i % 4 == 0);
	ok &= mem_smaps(p, "Private_Dirty") >= (long)(LEN / 4 >> 10);
	madvise(p, LEN, MADV_DONTNEED);
	ok &= resident(p) == 0 && mem_smaps(p, "Rss") == 0;
	munmap(room, LEN + 2 * PAGE);
	return ok;
}

static bool locked(void)
{
	unsigned char *p = mem_new(LEN), *q = mem_new(LEN);
	long before = locked_kib();
	bool ok = mlock(p, LEN) == 0;

	ok &= resident(p) == PAGES && locked_kib() == before + (long)(LEN >> 10);
	ok &= mem_dirty(p, LEN) == 0;
	mem_fill(p, LEN, 1);
	errno = 0;
	ok &= madvise(p, LEN, MADV_DONTNEED) == -1 && errno == EINVAL && mem_wrong(p, LEN, 1) == 0;
	ok &= munlock(p, LEN) == 0 && locked_kib() == before;
	ok &= madvise(p, LEN, MADV_DONTNEED) == 0 && mem_dirty(p, LEN) == 0;

	ok &= mlock2(q, LEN, MLOCK_ONFAULT) == 0 && resident(q) == 0;
	mem_fill(q, LEN / 2, 2);
	ok &= resident(q) == PAGES / 2 && mem_wrong(q, LEN / 2, 2) == 0;
	munmap(p, LEN);
	munmap(q, LEN);
	return ok && locked_kib() == before;
}

static int locked_all(void *arg)
{
	unsigned char *p = mem_new(LEN), *q;

	(void)arg;
	mem_fill(p, LEN, 3);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) || resident(p) != PAGES || mem_wrong(p, LEN, 3))
		return 1;
	q = mem_new(LEN);
	if (resident(q) != PAGES || mem_dirty(q, LEN))
		return 2;
	mem_fill(q, LEN, 4);
	if (munlockall() || locked_kib() != 0 || mem_wrong(q, LEN, 4) || mem_wrong(p, LEN, 3))
		return 3;
	q = mem_new(LEN);
	return resident(q) == 0 ? 0 : 4;
}

static int limited(void *arg)
{
	struct rlimit limit = { 16 * PAGE, 16 * PAGE };
	unsigned char *p = mem_new(LEN);

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &limit) || setresuid(65534, 65534, 65534))
		return 1;
	if (mlock(p, 8 * PAGE))
		return 2;
	errno = 0;
	if (mlock(p, LEN) != -1 || errno != ENOMEM)
		return 3;
	mem_fill(p, LEN, 5);
	return mem_wrong(p, LEN, 5) ? 4 : 0;
}

static bool through_mem(void)
{
	unsigned char *p = mem_new(LEN), *buf = mem_new(LEN);
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	off_t at = (off_t)(uintptr_t)p;
	bool ok = fd >= 0;

	mem_fill(p, LEN, 6);
	ok &= pread(fd, buf, LEN, at) == LEN && mem_wrong(buf, LEN, 6) == 0;
	mem_fill(buf, LEN, 7);
	ok &= pwrite(fd, buf, LEN, at) == LEN && mem_wrong(p, LEN, 7) == 0;

	/* It may write where the process may not: a private copy appears. */
	ok &= mprotect(p, LEN, PROT_READ) == 0 && mem_wrong(p, LEN, 7) == 0;
	mem_fill(buf, LEN, 8);
	ok &= pwrite(fd, buf, LEN, at) == LEN && mem_wrong(p, LEN, 8) == 0;
	ok &= TRAP_TRY("movb %%al, (%%rcx)", 1, p, 0) == TRAP_PF;

	munmap(p + 8 * PAGE, PAGE);
	ok &= pread(fd, buf, LEN, at) == 8 * PAGE;
	errno = 0;
	ok &= pread(fd, buf, PAGE, at + 8 * (off_t)PAGE) == -1 && errno == EIO;
	close(fd);
	munmap(p, LEN);
	munmap(buf, LEN);
	return ok;
}

__attribute__((noinline)) static int five(void)
{
	volatile int value = 5;

	return value;
}

/* A debugger's way to set a breakpoint, here with "mov $9, %eax; ret". */
static bool code_through_mem(void)
{
	static const unsigned char nine[] = { 0xb8, 9, 0, 0, 0, 0xc3 };
	int (*volatile fn)(void) = five;
	unsigned char was[sizeof(nine)];
	off_t at = (off_t)(uintptr_t)five;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	bool ok = fn() == 5;

	ok &= pread(fd, was, sizeof(was), at) == sizeof(was);
	ok &= pwrite(fd, nine, sizeof(nine), at) == sizeof(nine) && fn() == 9;
	ok &= pwrite(fd, was, sizeof(was), at) == sizeof(was) && fn() == 5;
	close(fd);
	return ok;
}

/* clear_refs 4 forgets who was written; a write in guest mode is noticed again. */
static void soft_dirty(void)
{
	unsigned char *p = mem_new(LEN);
	unsigned int early = 0, wrong = 0;

	mem_fill(p, LEN, 9);
	if (!mem_write_text("/proc/self/clear_refs", "4"))
		ktap_bail("/proc/self/clear_refs: %s", strerror(errno));
	for (size_t i = 0; i < PAGES; i++) {
		early += !!(mem_pagemap(p + i * PAGE) & MEM_PM_SOFT);
		wrong += mem_wrong_from(p + i * PAGE, PAGE, 9, i * PAGE / 8) != 0;
	}
	ktap_ok(early == 0 && wrong == 0, "soft-dirty: clear after clear_refs and after reading");
	for (size_t i = 0; i < PAGES; i += 3)
		mem_fill(p + i * PAGE, PAGE, 10);
	wrong = 0;
	for (size_t i = 0; i < PAGES; i++)
		wrong += !!(mem_pagemap(p + i * PAGE) & MEM_PM_SOFT) != (i % 3 == 0);
	ktap_eq(wrong, 0, "soft-dirty: set for the pages that were written");
	munmap(p, LEN);
}

int main(void)
{
	int status;

	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	dune_test_enter();
	trap_install();
	ktap_ok(pages_appear(), "mincore, pagemap and smaps see what guest mode touches");
	ktap_ok(locked(), "mlock, mlock2, munlock");
	status = mem_child(locked_all, NULL);
	ktap_ok(status == 0, "mlockall, now and for the future (%s)", child_status(status));
	status = mem_child(limited, NULL);
	ktap_ok(status == 0, "RLIMIT_MEMLOCK (%s)", child_status(status));
	ktap_ok(through_mem(), "/proc/self/mem");
	ktap_ok(code_through_mem(), "and code that is changed through it");
	soft_dirty();
	return dune_test_done();
}
