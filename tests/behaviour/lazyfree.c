/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=60 */
/*
 * Pages whose state in the mm's own tables decides what becomes of them.  A
 * guest's write sets no dirty bit there by itself, so a page that was given up
 * by MADV_FREE and then written in guest mode would be dropped with what was
 * written.  And pages that are the zero page, or may only be written.
 */
#define _GNU_SOURCE
#include "../dune_test.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE		4096UL
#define PAGES		64U

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

static volatile unsigned char *map(int prot)
{
	void *p = mmap(NULL, PAGES * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap: %s", strerror(errno));
	return p;
}

static void fill(volatile unsigned char *p, unsigned char value)
{
	for (unsigned int i = 0; i < PAGES; i++)
		p[i * PAGE] = value;
}

static unsigned int count(volatile unsigned char *p, unsigned char value)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < PAGES; i++)
		n += p[i * PAGE] == value;
	return n;
}

static void advise(volatile unsigned char *p, int advice)
{
	if (madvise((void *)p, PAGES * PAGE, advice))
		ktap_bail("madvise %d: %s", advice, strerror(errno));
}

static void given_up(void)
{
	volatile unsigned char *read = map(PROT_READ | PROT_WRITE);
	volatile unsigned char *written = map(PROT_READ | PROT_WRITE);
	unsigned int kept;

	fill(read, 1);
	fill(written, 1);
	advise(read, MADV_FREE);
	advise(written, MADV_FREE);
	ktap_eq(count(read, 1) + count(written, 1), 2 * PAGES,
		"pages that were given up can still be read");
	fill(written, 2);
	advise(read, MADV_PAGEOUT);
	advise(written, MADV_PAGEOUT);
	kept = count(read, 1);
	ktap_ok(kept + count(read, 0) == PAGES && kept < PAGES / 2,
		"most of those that were only read are gone (%u of %u are left)", kept, PAGES);
	ktap_eq(count(written, 2), PAGES, "those that were written are all there");
}

static void zero_page(void)
{
	volatile unsigned char *p = map(PROT_READ | PROT_WRITE);

	ktap_eq(count(p, 0), PAGES, "fresh pages are zeroes");
	p[5 * PAGE] = 7;
	ktap_ok(count(p, 0) == PAGES - 1 && p[5 * PAGE] == 7, "a write changes one alone");
	advise(p, MADV_DONTNEED);
	ktap_eq(count(p, 0), PAGES, "dropped pages are zeroes again");
}

static void write_only(void)
{
	volatile unsigned char *p = map(PROT_WRITE);

	ktap_eq(count(p, 0), PAGES, "what may be written may be read, as natively");
	fill(p, 9);
	ktap_eq(count(p, 9), PAGES, "and written");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	dune_test_enter();
	given_up();
	zero_page();
	write_only();
	return dune_test_done();
}
