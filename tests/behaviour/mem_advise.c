/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * madvise in Dune mode: what is discarded reads as zeroes, what was written
 * since stays, and pages that the kernel merges (KSM) part again at the first
 * write in guest mode.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../trap.h"

#ifndef MADV_COLD
#define MADV_COLD		20
#define MADV_PAGEOUT		21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

#define PAGES	64
#define LEN	(PAGES * PAGE)

static bool dontneed(void)
{
	unsigned char *p = mem_new(LEN);
	bool ok = true;

	for (unsigned int round = 1; round < 200; round++) {
		size_t from = round % PAGES, n = 1 + round % 7;

		mem_fill(p, LEN, round);
		if (from + n > PAGES)
			n = PAGES - from;
		ok &= madvise(p + from * PAGE, n * PAGE, MADV_DONTNEED) == 0;
		ok &= mem_wrong(p, from * PAGE, round) == 0;
		ok &= mem_dirty(p + from * PAGE, n * PAGE) == 0;
		ok &= mem_wrong_from(p + (from + n) * PAGE, (PAGES - from - n) * PAGE, round,
				     (from + n) * PAGE / 8) == 0;
	}
	munmap(p, LEN);
	return ok;
}

/*
 * MADV_FREE: a page written since is no longer free, also when the write came
 * from guest mode.  MADV_PAGEOUT reclaims at once those that are.
 */
static bool lazily_freed(void)
{
	unsigned int dropped = 0, wrong = 0;
	unsigned char *p = mem_new(LEN);

	mem_fill(p, LEN, 1);
	if (madvise(p, LEN, MADV_FREE))
		return false;
	for (size_t i = 0; i < PAGES; i += 2)
		mem_fill(p + i * PAGE, PAGE, 100 + i);
	if (madvise(p, LEN, MADV_PAGEOUT))
		return false;
	for (size_t i = 0; i < PAGES; i++) {
		if (i % 2 == 0)
			wrong += mem_wrong(p + i * PAGE, PAGE, 100 + i) != 0;
		else if (mem_dirty(p + i * PAGE, PAGE) == 0)
			dropped++;
		else
			wrong += mem_wrong_from(p + i * PAGE, PAGE, 1, i * PAGE / 8) != 0;
	}
	ktap_note("MADV_FREE: %u of %d pages were dropped, %u are wrong", dropped, PAGES / 2, wrong);
	munmap(p, LEN);
	return !wrong && dropped > 0;
}

/* No swap is needed to be cold, and none is there to be paged out to: nothing may change. */
static bool cold(void)
{
	unsigned char *p = mem_new(LEN);
	bool ok;

	mem_fill(p, LEN, 2);
	ok = madvise(p, LEN, MADV_COLD) == 0 && mem_wrong(p, LEN, 2) == 0;
	ok &= madvise(p, LEN, MADV_COLD) == 0 && madvise(p, LEN, MADV_PAGEOUT) == 0;
	ok &= mem_wrong(p, LEN, 2) == 0;
	mem_fill(p, LEN, 3);
	ok &= madvise(p, LEN, MADV_PAGEOUT) == 0 && mem_wrong(p, LEN, 3) == 0;
	munmap(p, LEN);
	return ok;
}

static bool populate(void)
{
	unsigned char *p = mem_new(LEN), vec[PAGES];
	bool ok = madvise(p, LEN / 2, MADV_POPULATE_READ) == 0 &&
		  madvise(p + LEN / 2, LEN / 2, MADV_POPULATE_WRITE) == 0 &&
		  mincore(p, LEN, vec) == 0;

	for (size_t i = PAGES / 2; i < PAGES; i++)
		ok &= vec[i] & 1;
	ok &= mem_dirty(p, LEN) == 0;
	mem_fill(p, LEN, 4);
	ok &= mem_wrong(p, LEN, 4) == 0;
	munmap(p, LEN);
	return ok;
}

/* What a child gets of memory that is wiped on fork or not copied at all. */
static unsigned char *wiped, *missing;

static int fork_advice(void *arg)
{
	(void)arg;
	if (mem_dirty(wiped, LEN))
		return 1;
	trap_install();
	if (TRAP_TRY("movzbl (%%rcx), %%eax", 0, missing, 0) != TRAP_PF)
		return 2;
	mem_fill(wiped, LEN, 6);
	return mem_wrong(wiped, LEN, 6) ? 3 : 0;
}

static bool at_fork(void)
{
	int status;
	bool ok;

	wiped = mem_new(LEN);
	missing = mem_new(LEN);
	mem_fill(wiped, LEN, 5);
	mem_fill(missing, LEN, 5);
	ok = madvise(wiped, LEN, MADV_WIPEONFORK) == 0 && madvise(missing, LEN, MADV_DONTFORK) == 0;
	status = mem_child(fork_advice, NULL);
	if (status)
		ktap_note("the child: %s", child_status(status));
	ok &= status == 0 && mem_wrong(wiped, LEN, 5) == 0 && mem_wrong(missing, LEN, 5) == 0;
	munmap(wiped, LEN);
	munmap(missing, LEN);
	return ok;
}

/* ---- KSM ------------------------------------------------------------ */

#define KSM	"/sys/kernel/mm/ksm/"

struct ksm_settings {
	long run, pages, sleep;
};

static struct ksm_settings ksm_start(void)
{
	struct ksm_settings s = {
		mem_read_number(KSM "run"), mem_read_number(KSM "pages_to_scan"),
		mem_read_number(KSM "sleep_millisecs"),
	};

	if (!mem_write_number(KSM "pages_to_scan", 2000) ||
	    !mem_write_number(KSM "sleep_millisecs", 5) || !mem_write_number(KSM "run", 1))
		ktap_bail(KSM ": %s", strerror(errno));
	return s;
}

static void ksm_restore(const struct ksm_settings *s)
{
	mem_write_number(KSM "run", 2);		/* part all that is merged */
	mem_write_number(KSM "pages_to_scan", s->pages);
	mem_write_number(KSM "sleep_millisecs", s->sleep);
	mem_write_number(KSM "run", s->run);
}

static uint64_t pfn(const void *p)
{
	return mem_pagemap(p) & MEM_PM_PFN;
}

static unsigned int same_frames(const unsigned char *a, const unsigned char *b)
{
	unsigned int same = 0;

	for (size_t i = 0; i < PAGES; i++)
		same += pfn(a + i * PAGE) == pfn(b + i * PAGE);
	return same;
}

/*
 * Two areas with equal contents.  The reads in between keep translations in
 * use while ksmd write-protects and replaces the pages.
 */
static void merged(void)
{
	unsigned char *a = mem_new(LEN), *b = mem_new(LEN);
	struct ksm_settings settings;
	double end = child_now() + 30;
	unsigned int same = 0, apart = 0;
	size_t wrong = 0;

	mem_fill(a, LEN, 7);
	mem_fill(b, LEN, 7);
	ktap_ok(madvise(a, LEN, MADV_MERGEABLE) == 0 && madvise(b, LEN, MADV_MERGEABLE) == 0,
		"MADV_MERGEABLE");
	settings = ksm_start();
	while (same < PAGES && child_now() < end) {
		wrong += mem_wrong(a, LEN, 7) + mem_wrong(b, LEN, 7);
		usleep(20000);
		same = same_frames(a, b);
	}
	ktap_eq(same, PAGES, "ksmd merged all %d pages", PAGES);
	ktap_eq(wrong, 0, "which could be read all the time");

	for (size_t i = 0; i < PAGES; i += 2)
		mem_fill(b + i * PAGE, PAGE, 200 + i);
	wrong = mem_wrong(a, LEN, 7);
	for (size_t i = 0; i < PAGES; i++) {
		if (i % 2 == 0) {
			wrong += mem_wrong(b + i * PAGE, PAGE, 200 + i);
			apart += pfn(a + i * PAGE) != pfn(b + i * PAGE);
		} else {
			wrong += mem_wrong_from(b + i * PAGE, PAGE, 7, i * PAGE / 8);
		}
	}
	ktap_ok(wrong == 0 && apart == PAGES / 2, "a write parts a merged page, the other stays");

	ktap_ok(madvise(a, LEN, MADV_UNMERGEABLE) == 0 && mem_wrong(a, LEN, 7) == 0,
		"MADV_UNMERGEABLE changes no contents");
	mem_fill(a, LEN, 8);
	wrong = mem_wrong(a, LEN, 8);
	ksm_restore(&settings);
	for (size_t i = 0; i < PAGES; i++)
		wrong += i % 2 ? mem_wrong_from(b + i * PAGE, PAGE, 7, i * PAGE / 8) :
				 mem_wrong(b + i * PAGE, PAGE, 200 + i);
	ktap_eq(wrong, 0, "nor does the end of KSM");
	munmap(a, LEN);
	munmap(b, LEN);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 11 + DUNE_TEST_LEAVE);
	dune_test_enter();
	ktap_ok(dontneed(), "MADV_DONTNEED: zeroes there, the rest as it was");
	ktap_ok(lazily_freed(), "MADV_FREE: what was written since is kept");
	ktap_ok(cold(), "MADV_COLD and MADV_PAGEOUT change no contents");
	ktap_ok(populate(), "MADV_POPULATE_READ and MADV_POPULATE_WRITE");
	ktap_ok(at_fork(), "MADV_WIPEONFORK and MADV_DONTFORK");
	merged();
	return dune_test_done();
}
