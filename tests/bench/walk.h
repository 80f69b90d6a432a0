/* SPDX-License-Identifier: MIT */
/*
 * Reads of random pages, so that the CPU walks the page tables for nearly each: 2^16
 * pages of 4 KB, and 2^12 of 2 MB where there is one to be had.
 *
 * The pages are few, mapped over and over (2 MB of a file of memory): the TLB has no
 * room for their addresses, the cache has for their data.  An emulator counts
 * instructions, and those are the same.
 */
#ifndef TESTS_BENCH_WALK_H
#define TESTS_BENCH_WALK_H

#include <fcntl.h>
#include <sys/mman.h>

#define BIT4K		12
#define BIT2M		21
#define FILE_SIZE	(1UL << BIT2M)
#define PAGES_4K	(1UL << 16)
#define PAGES_2M	(1UL << 12)
#define WALKS		128U		/* in one operation: a walk is a few ticks */
#define OPERATIONS	512U		/* in a batch: 2^16 walks */

struct area {
	const volatile unsigned char *start;
	unsigned long pages;
	unsigned int shift;
};

/*
 * Each address depends on the byte read before it, which is zero: the walks cannot
 * overlap.  The order is that of a generator whose period is the number of pages.
 */
static void walk(unsigned int n, void *arg)
{
	const struct area *a = arg;
	const volatile unsigned char *start = a->start;
	unsigned long page = 0, mask = a->pages - 1;
	unsigned int shift = a->shift;

	for (unsigned int i = 0; i < n * WALKS; i++) {
		page = (page * 1664525 + 1013904223) & mask;
		/* Another cache line in each page: not all in one set. */
		page += start[page << shift | (page & 63) << 6];
	}
}

/* @pages times the same memory, side by side; NULL if there are no pages of that size. */
static bool map_area(struct area *a, unsigned long pages, unsigned int shift, unsigned int flags)
{
	unsigned long each = FILE_SIZE >> shift;
	int fd = memfd_create("walk", flags);
	unsigned char *at;

	if (fd < 0 || ftruncate(fd, FILE_SIZE))
		ktap_bail("memfd: %s", strerror(errno));
	at = mmap(NULL, (pages << shift) + FILE_SIZE, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	at += -(uintptr_t)at & (FILE_SIZE - 1);
	for (unsigned long i = 0; i < pages / each; i++) {
		if (mmap(at + i * FILE_SIZE, FILE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) != MAP_FAILED)
			continue;
		if (i || errno != ENOMEM)
			ktap_bail("mmap: %s", strerror(errno));
		close(fd);
		return false;
	}
	close(fd);
	*a = (struct area){ .start = at, .pages = pages, .shift = shift };
	return true;
}

/* One page of 2 MB in the kernel's pool, for map_area(). */
static void want_huge_page(void)
{
	int fd = open("/proc/sys/vm/nr_hugepages", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1", 1) != 1)
		ktap_note("nr_hugepages: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

#endif /* TESTS_BENCH_WALK_H */
