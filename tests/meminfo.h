/* SPDX-License-Identifier: MIT */
/*
 * Memory that nothing accounts for, and references to the module: what a
 * process may have left behind.
 *
 * Memory is what /proc/meminfo cannot name: the total less what is free (in
 * the per-CPU lists too), cached, anonymous, slab, stacks and page tables.
 * That is where pages that a module forgot show up, and little else: it moves
 * by some 100 KiB on an idle system.
 */
#ifndef TESTS_MEMINFO_H
#define TESTS_MEMINFO_H

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ktap.h"

/* A /proc file as text, cut at the buffer's size. */
static void meminfo_read(const char *file, char *buf, size_t size)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	while (fd >= 0 && used < size - 1 && (n = read(fd, buf + used, size - 1 - used)) > 0)
		used += (size_t)n;
	if (fd >= 0)
		close(fd);
	buf[used] = '\0';
}

/* The sum of the numbers that follow @name at the start of a line. */
static long meminfo_sum(const char *text, const char *name)
{
	long sum = 0;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += strspn(line, " \n");
		if (!strncmp(line, name, strlen(name)))
			sum += strtol(line + strlen(name), NULL, 10);
	}
	return sum;
}

struct meminfo {
	long unnamed, slab;	/* KiB */
};

static struct meminfo meminfo_now(void)
{
	static const char *const named[] = {
		"MemFree:", "Buffers:", "Cached:", "SwapCached:", "AnonPages:", "SReclaimable:",
		"SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:", "Percpu:",
	};
	static char text[1 << 16];
	struct meminfo m;

	meminfo_read("/proc/meminfo", text, sizeof(text));
	m.slab = meminfo_sum(text, "SUnreclaim:");
	m.unnamed = meminfo_sum(text, "MemTotal:");
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		m.unnamed -= meminfo_sum(text, named[i]);
	meminfo_read("/proc/zoneinfo", text, sizeof(text));
	m.unnamed -= meminfo_sum(text, "count:") * 4;
	return m;
}

/*
 * After the module's deferred work: a VM is freed once a grace period is over, which on a
 * busy host may take its time.  So until no more comes back.
 */
__attribute__((unused)) static struct meminfo meminfo_settled(void)
{
	struct timespec nap = { 0, 500000000 };
	struct meminfo m, last;
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd < 0 || write(fd, "3", 1) != 1)
		ktap_note("drop_caches: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	nanosleep(&nap, NULL);
	m = meminfo_now();
	for (unsigned int i = 0; i < 20; i++) {
		last = m;
		nanosleep(&nap, NULL);
		m = meminfo_now();
		if (m.unnamed + m.slab >= last.unnamed + last.slab - 64)
			break;
	}
	return m;
}

__attribute__((unused)) static long meminfo_references(void)
{
	char text[32];

	meminfo_read("/sys/module/dune/refcnt", text, sizeof(text));
	return text[0] ? strtol(text, NULL, 10) : -1;
}

#endif /* TESTS_MEMINFO_H */
