/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * The address space of a Dune process is all of its 47 bits: mappings anywhere
 * in it work, and one of a TiB costs what is touched of it.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#define TIB	(1UL << 40)
#define TOP	((1UL << 47) - PAGE)
#define SPREAD	509		/* places, GiBs apart from each other */

static int try_read(const void *p)
{
	return TRAP_TRY("movzbl (%%rcx), %%eax", 0, p, 0);
}

static unsigned char *huge_mapping(void)
{
	unsigned char *p = mmap(NULL, TIB, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap of 1 TiB: %s", strerror(errno));
	madvise(p, TIB, MADV_NOHUGEPAGE);	/* what is touched counts, not 2 MiB around it */
	return p;
}

static bool a_tib(void)
{
	unsigned char *p = huge_mapping();
	bool ok = mem_dirty(p, PAGE) == 0 && mem_dirty(p + TIB - PAGE, PAGE) == 0;

	mem_fill(p, PAGE, 1);
	mem_fill(p + TIB - PAGE, PAGE, 2);
	for (size_t i = 1; i < 32; i++)
		mem_fill(p + i * (TIB / 32) - PAGE / 2, PAGE, 100 + i);
	ok &= mem_wrong(p, PAGE, 1) == 0 && mem_wrong(p + TIB - PAGE, PAGE, 2) == 0;
	for (size_t i = 1; i < 32; i++)
		ok &= mem_wrong(p + i * (TIB / 32) - PAGE / 2, PAGE, 100 + i) == 0;
	ok &= mem_smaps(p, "Rss") < 1024;
	ok &= munmap(p + TIB / 2, TIB / 2) == 0 && try_read(p + TIB - 1) == TRAP_PF;
	ok &= mem_wrong(p, PAGE, 1) == 0;
	munmap(p, TIB / 2);
	return ok && try_read(p) == TRAP_PF;
}

/* Address number @i of the spread. */
static unsigned char *place(size_t i)
{
	uint64_t at = (uint64_t)i * ((1UL << 47) / SPREAD);

	return (unsigned char *)((at & ~(PAGE - 1)) + (i % 512) * PAGE);
}

/* All places at once, written first and checked after. */
static bool everywhere(unsigned int *mapped)
{
	static bool mine[SPREAD];
	bool ok = true;

	*mapped = 0;
	for (size_t i = 1; i < SPREAD; i++) {
		mine[i] = mmap(place(i), 2 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == place(i);
		if (!mine[i])
			continue;
		++*mapped;
		mem_fill(place(i), 2 * PAGE, i);
	}
	for (size_t i = 1; i < SPREAD; i++)
		ok &= !mine[i] || mem_wrong(place(i), 2 * PAGE, i) == 0;
	for (size_t i = 1; i < SPREAD; i++) {
		ok &= !mine[i] || munmap(place(i), PAGE) == 0;
		ok &= !mine[i] || try_read(place(i)) == TRAP_PF;
		ok &= !mine[i] || mem_wrong_from(place(i) + PAGE, PAGE, i, PAGE / 8) == 0;
		ok &= !mine[i] || munmap(place(i), 2 * PAGE) == 0;
	}
	return ok;
}

static bool edges(void)
{
	unsigned char *top = (unsigned char *)TOP - PAGE, *low = (unsigned char *)0x10000;
	bool ok = mmap(top, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == top;

	ok &= mmap(low, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == low;
	if (!ok)
		return false;
	mem_fill(top, PAGE, 1);
	mem_fill(low, PAGE, 2);
	ok &= mem_wrong(top, PAGE, 1) == 0 && mem_wrong(low, PAGE, 2) == 0;
	ok &= try_read(top + PAGE) == TRAP_PF && try_read(low - 1) == TRAP_PF;
	ok &= try_read((void *)0xffffffff81000000UL) == TRAP_PF;
	ok &= try_read((void *)(1UL << 63)) == TRAP_GP;
	munmap(top, PAGE);
	munmap(low, PAGE);
	return ok;
}

/* One mapping over the border of two windows, at many borders; words that straddle it. */
static bool borders(void)
{
	unsigned char *p = mmap(NULL, 20 * GIB, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t first = ((uintptr_t)p + GIB - 1) & ~(GIB - 1);
	bool ok = p != MAP_FAILED;

	for (uintptr_t at = first; ok && at < (uintptr_t)p + 20 * GIB - PAGE; at += GIB) {
		volatile uint64_t *word = (volatile uint64_t *)(at - 4);

		*word = mem_word(at >> 30, 5);
		ok &= *word == mem_word(at >> 30, 5);
		ok &= *(volatile uint32_t *)at == (uint32_t)(mem_word(at >> 30, 5) >> 32);
	}
	munmap(p, 20 * GIB);
	return ok;
}

/* A system call fills memory in a GiB that guest mode never touched. */
static bool calls_reach_further(void)
{
	unsigned char *p = (unsigned char *)0x123400000000UL;
	int pipes[2];
	bool ok = mmap(p, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == p;
	unsigned char *buf = mem_new(PAGE);

	if (!ok || pipe(pipes))
		return false;
	mem_fill(buf, PAGE, 3);
	ok = write(pipes[1], buf, PAGE) == (ssize_t)PAGE && read(pipes[0], p, PAGE) == (ssize_t)PAGE;
	ok &= mem_wrong(p, PAGE, 3) == 0;
	close(pipes[0]);
	close(pipes[1]);
	munmap(p, PAGE);
	munmap(buf, PAGE);
	return ok;
}

int main(void)
{
	unsigned int mapped;
	bool ok;

	ktap_plan(DUNE_TEST_ENTER + 6 + DUNE_TEST_LEAVE);
	dune_test_enter();
	trap_install();
	ktap_ok(a_tib(), "1 TiB without reserve, touched at both ends and between");
	ktap_ok(edges(), "the first and the last page, and what lies beyond");
	ktap_ok(borders(), "words across the borders of windows");
	ktap_ok(calls_reach_further(), "a system call fills memory that guest mode has not seen");
	ok = everywhere(&mapped);
	ktap_ok(ok, "pages all over the 47 bits keep their contents");
	ktap_ok(mapped > SPREAD - 10, "%u places of %d", mapped, SPREAD - 1);
	return dune_test_done();
}
