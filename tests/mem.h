/* SPDX-License-Identifier: MIT */
/*
 * Memory whose contents can be told, and children in Dune mode.
 *
 * A pattern is a word per 8 bytes, made of a seed and the word's index: a page
 * that shows another page's words, or older ones, is seen.
 */
#ifndef TESTS_MEM_H
#define TESTS_MEM_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>

#include "child.h"
#include "dune_test.h"

#define PAGE	4096UL
#define MIB	(1UL << 20)
#define GIB	(1UL << 30)
#define HUGE	(2 * MIB)

static inline uint64_t mem_word(uint64_t seed, size_t i)
{
	uint64_t x = (seed << 32) + i + 1;

	x *= 0x9e3779b97f4a7c15UL;
	return x ^ x >> 29;
}

/* @len is a multiple of 8. */
__attribute__((unused)) static void mem_fill(void *p, size_t len, uint64_t seed)
{
	volatile uint64_t *w = p;

	for (size_t i = 0; i < len / 8; i++)
		w[i] = mem_word(seed, i);
}

/* How many words of [p, p + len) are not the words @first, @first + 1, ... of the pattern. */
__attribute__((unused)) static size_t mem_wrong_from(const void *p, size_t len, uint64_t seed,
						     size_t first)
{
	const volatile uint64_t *w = p;
	size_t wrong = 0;

	for (size_t i = 0; i < len / 8; i++)
		wrong += w[i] != mem_word(seed, first + i);
	return wrong;
}

__attribute__((unused)) static size_t mem_wrong(const void *p, size_t len, uint64_t seed)
{
	return mem_wrong_from(p, len, seed, 0);
}

/* How many words are not 0. */
__attribute__((unused)) static size_t mem_dirty(const void *p, size_t len)
{
	const volatile uint64_t *w = p;
	size_t wrong = 0;

	for (size_t i = 0; i < len / 8; i++)
		wrong += w[i] != 0;
	return wrong;
}

/* New private memory; ends the test if there is none. */
__attribute__((unused)) static unsigned char *mem_new(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap of %zu bytes: %s", len, strerror(errno));
	return p;
}

/* As mem_new(), at a multiple of @align; what lies before and behind is unmapped. */
__attribute__((unused)) static unsigned char *mem_new_aligned(size_t len, size_t align)
{
	unsigned char *p = mem_new(len + align);
	size_t head = -(uintptr_t)p & (align - 1);

	if (head)
		munmap(p, head);
	munmap(p + head + len, align - head);
	return p + head;
}

/* The first number in a file of /proc or /sys; -1 if there is none. */
__attribute__((unused)) static long mem_read_number(const char *path)
{
	char buf[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, sizeof(buf) - 1);

	if (fd >= 0)
		close(fd);
	return n > 0 ? strtol(buf, NULL, 0) : -1;
}

/* Writes @text to a file of /proc, /sys or a cgroup.  False, with errno, if it refuses. */
__attribute__((unused)) static bool mem_write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), saved;
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return ok;
}

__attribute__((unused)) static bool mem_write_number(const char *path, long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", number);
	return mem_write_text(path, text);
}

/* The value behind "NAME " or "NAME:" in a file of such lines, e.g. /proc/vmstat; -1: none. */
__attribute__((unused)) static long mem_field(const char *path, const char *name)
{
	FILE *f = fopen(path, "re");
	size_t len = strlen(name);
	char line[256];
	long value = -1;

	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, len) && (line[len] == ' ' || line[len] == ':'))
			value = strtol(line + len + 1, NULL, 10);
	fclose(f);
	return value;
}

/* The same of the mapping that holds @p in /proc/self/smaps, in KiB. */
__attribute__((unused)) static long mem_smaps(const void *p, const char *name)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	size_t len = strlen(name);
	unsigned long begin, end;
	bool here = false;
	char line[512];
	long value = -1;

	if (!f)
		return -1;
	while (value < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			here = begin <= (unsigned long)p && (unsigned long)p < end;
		else if (here && !strncmp(line, name, len) && line[len] == ':')
			value = strtol(line + len + 1, NULL, 10);
	}
	fclose(f);
	return value;
}

#define MEM_PM_PFN	((1UL << 55) - 1)
#define MEM_PM_SOFT	(1UL << 55)
#define MEM_PM_SWAP	(1UL << 62)
#define MEM_PM_PRESENT	(1UL << 63)

/* What /proc/self/pagemap says about the page of @p; 0 if nothing is there. */
__attribute__((unused)) static uint64_t mem_pagemap(const void *p)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t entry = 0;

	if (fd < 0 || pread(fd, &entry, 8, (off_t)((uintptr_t)p / PAGE * 8)) != 8)
		ktap_bail("/proc/self/pagemap: %s", strerror(errno));
	close(fd);
	return entry;
}

/*
 * Runs fn(arg) in a forked child in Dune mode, whether children start there or
 * enter first; the wait status.
 */
__attribute__((unused)) static int mem_child(int (*fn)(void *), void *arg)
{
	struct child c;

	c.pid = fork();
	if (c.pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dune_enter() || dune_test_cpl() != 0)
			_exit(DUNE_TEST_NOT_IN_GUEST);
		_exit(fn(arg));
	}
	return child_wait(&c);
}

/* For a new thread: true if it is in Dune mode now. */
__attribute__((unused)) static bool mem_thread_inside(void)
{
	return dune_enter() == 0 && dune_test_cpl() == 0;
}

#endif /* TESTS_MEM_H */
