/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=90 slow-bochs=19 thorough */
/*
 * Huge pages under a Dune process: transparent ones that are made, collapsed
 * and split while guest mode works on them, and those of hugetlb.
 */
#define _GNU_SOURCE
#include "../mem.h"

#include <pthread.h>
#include <sched.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define THP	"/sys/kernel/mm/transparent_hugepage/"
#define AREA	(4 * HUGE)

/* ---- settings of the guest, and back --------------------------------- */

static char thp_was[64], sleep_was[32], scan_was[32];

static void keep(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (n <= 0)
		ktap_bail("%s: %s", path, strerror(errno));
	buf[n] = '\0';
	close(fd);
}

static void thp_on(void)
{
	char words[64], *begin;

	/* "always madvise [never]": the chosen one stands in brackets. */
	keep(THP "enabled", words, sizeof(words));
	begin = strchr(words, '[');
	if (!begin || sscanf(begin, "[%63[a-z]", thp_was) != 1)
		ktap_bail("cannot read " THP "enabled");
	keep(THP "khugepaged/scan_sleep_millisecs", sleep_was, sizeof(sleep_was));
	keep(THP "khugepaged/pages_to_scan", scan_was, sizeof(scan_was));
	if (!mem_write_text(THP "enabled", "madvise") ||
	    !mem_write_text(THP "khugepaged/scan_sleep_millisecs", "1000000"))
		ktap_bail("cannot write to " THP);
}

static void thp_restore(void)
{
	mem_write_text(THP "khugepaged/scan_sleep_millisecs", sleep_was);
	mem_write_text(THP "khugepaged/pages_to_scan", scan_was);
	mem_write_text(THP "enabled", thp_was);
}

/* ---- a thread in Dune mode that keeps the area busy ------------------ */

/*
 * One word per page is a counter of its own, behind the pattern's words: page i
 * counts in word 511.  A lost or doubled page shows as a wrong count.
 */
static struct worker {
	unsigned char *area;
	size_t pages;
	volatile int stop, inside;
	volatile unsigned long rounds, wrong;
} worker;

static volatile uint64_t *counter(size_t page)
{
	return (volatile uint64_t *)(worker.area + page * PAGE) + 511;
}

static void *work(void *arg)
{
	(void)arg;
	worker.inside = mem_thread_inside() ? 1 : -1;
	while (!worker.stop) {
		for (size_t i = 0; i < worker.pages; i++)
			worker.wrong += (*counter(i))++ != worker.rounds;
		worker.rounds++;
		sched_yield();
	}
	return NULL;
}

static pthread_t worker_start(unsigned char *area, size_t len)
{
	pthread_t thread;

	memset(&worker, 0, sizeof(worker));
	worker.area = area;
	worker.pages = len / PAGE;
	if (pthread_create(&thread, NULL, work, NULL))
		ktap_bail("pthread_create failed");
	while (worker.rounds < 2 && worker.inside >= 0)
		sched_yield();
	return thread;
}

/* The words that were wrong. */
static unsigned long worker_end(pthread_t thread)
{
	unsigned long more = worker.rounds + 2;

	while (worker.rounds < more && worker.inside == 1)
		sched_yield();
	worker.stop = 1;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < worker.pages; i++)
		worker.wrong += *counter(i) != worker.rounds;
	return worker.inside == 1 ? worker.wrong : ~0UL;
}

static void fill_pages(unsigned char *p, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i += PAGE)
		mem_fill(p + i, PAGE - 8, seed + (i >> 12));
}

static size_t wrong_pages(const unsigned char *p, size_t len, uint64_t seed)
{
	size_t wrong = 0;

	for (size_t i = 0; i < len; i += PAGE)
		wrong += mem_wrong(p + i, PAGE - 8, seed + (i >> 12));
	return wrong;
}

/* ---- transparent huge pages ------------------------------------------ */

static unsigned char *huge_area(void)
{
	unsigned char *p = mem_new_aligned(AREA, HUGE);

	madvise(p, AREA, MADV_HUGEPAGE);
	fill_pages(p, AREA, 1);
	return p;
}

static bool made(void)
{
	unsigned char *p = huge_area();
	long kib = mem_smaps(p, "AnonHugePages");
	bool ok = kib == (long)(AREA >> 10) && wrong_pages(p, AREA, 1) == 0;

	if (!ok)
		ktap_note("AnonHugePages: %ld kB", kib);
	munmap(p, AREA);
	return ok;
}

/* Parts are discarded, protected and unmapped: the kernel splits what maps them. */
static bool split_by_calls(void)
{
	unsigned char *p = huge_area();
	bool ok = madvise(p + 7 * PAGE, PAGE, MADV_DONTNEED) == 0 &&
		  mprotect(p + HUGE + 9 * PAGE, PAGE, PROT_READ) == 0 &&
		  munmap(p + 2 * HUGE + 100 * PAGE, 4 * PAGE) == 0;

	ok &= mem_dirty(p + 7 * PAGE, PAGE) == 0;
	fill_pages(p + 7 * PAGE, PAGE, 1 + 7);
	ok &= wrong_pages(p, 2 * HUGE + 100 * PAGE, 1) == 0;
	ok &= wrong_pages(p + 2 * HUGE + 104 * PAGE, 2 * HUGE - 104 * PAGE,
			  1 + (2 * HUGE >> 12) + 104) == 0;
	ok &= mem_smaps(p + 3 * HUGE, "AnonHugePages") >= (long)(HUGE >> 10);
	munmap(p, AREA);
	return ok;
}

/* The pages themselves are split, by root's file for that, under the worker's hands. */
static bool split_in_place(void)
{
	unsigned char *p = huge_area();
	char text[100];
	pthread_t thread;
	unsigned long wrong;
	bool ok;

	for (size_t i = 0; i < AREA; i += PAGE)
		*(uint64_t *)(p + i + PAGE - 8) = 0;
	thread = worker_start(p, AREA);
	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", (int)getpid(), (unsigned long)p,
		 (unsigned long)p + AREA);
	ok = mem_write_text("/sys/kernel/debug/split_huge_pages", text);
	ok &= mem_smaps(p, "AnonHugePages") == 0;
	wrong = worker_end(thread);
	ok &= wrong == 0 && wrong_pages(p, AREA, 1) == 0;
	if (!ok)
		ktap_note("split: %lu wrong counts, errno %d", wrong, errno);
	munmap(p, AREA);
	return ok;
}

/* Small pages become huge ones; @how waits for it or does it. */
static bool collapsed(bool (*how)(unsigned char *p))
{
	unsigned char *p = mem_new_aligned(AREA, HUGE);
	pthread_t thread;
	unsigned long wrong;
	bool ok;

	madvise(p, AREA, MADV_NOHUGEPAGE);
	fill_pages(p, AREA, 2);
	ok = mem_smaps(p, "AnonHugePages") == 0;
	madvise(p, AREA, MADV_HUGEPAGE);
	thread = worker_start(p, AREA);
	ok &= how(p);
	wrong = worker_end(thread);
	ok &= wrong == 0 && wrong_pages(p, AREA, 2) == 0;
	if (!ok)
		ktap_note("%ld kB are huge, %lu wrong counts", mem_smaps(p, "AnonHugePages"), wrong);
	munmap(p, AREA);
	return ok;
}

/* EAGAIN: the worker's hand was on a page; that is no error. */
static bool by_madvise(unsigned char *p)
{
	double end = child_now() + 20;

	while (mem_smaps(p, "AnonHugePages") < (long)(AREA >> 10) && child_now() < end)
		if (madvise(p, AREA, MADV_COLLAPSE) && errno != EAGAIN && errno != EBUSY)
			return false;
	return mem_smaps(p, "AnonHugePages") == (long)(AREA >> 10);
}

static bool by_khugepaged(unsigned char *p)
{
	double end = child_now() + 20;

	mem_write_text(THP "khugepaged/pages_to_scan", "8192");
	mem_write_text(THP "khugepaged/scan_sleep_millisecs", "10");
	while (mem_smaps(p, "AnonHugePages") == 0 && child_now() < end)
		usleep(20000);
	return mem_smaps(p, "AnonHugePages") > 0;
}

static int check_copy(void *p)
{
	if (wrong_pages(p, AREA, 1))
		return 1;
	fill_pages(p, AREA, 3);
	return wrong_pages(p, AREA, 3) ? 2 : 0;
}

static bool copied(void)
{
	unsigned char *p = huge_area();
	int status = mem_child(check_copy, p);
	bool ok = status == 0 && wrong_pages(p, AREA, 1) == 0;

	if (status)
		ktap_note("the child: %s", child_status(status));
	munmap(p, AREA);
	return ok;
}

/* ---- hugetlb ---------------------------------------------------------- */

static bool hugetlb_use(size_t len, int flags)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
	size_t step = len / 16;
	bool ok = p != MAP_FAILED;

	if (!ok) {
		ktap_note("MAP_HUGETLB: %s", strerror(errno));
		return false;
	}
	for (size_t i = 0; i < len; i += step) {
		ok &= mem_dirty(p + i, PAGE) == 0;
		mem_fill(p + i, PAGE, i);
		mem_fill(p + i + step - PAGE, PAGE, i + 1);
	}
	for (size_t i = 0; i < len; i += step)
		ok &= mem_wrong(p + i, PAGE, i) == 0 && mem_wrong(p + i + step - PAGE, PAGE, i + 1) == 0;
	ok &= mprotect(p, len, PROT_READ) == 0 && mem_wrong(p, PAGE, 0) == 0;
	ok &= munmap(p, len) == 0;
	return ok;
}

static bool hugetlb_copied(void)
{
	unsigned char *p = mmap(NULL, AREA, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	bool ok = p != MAP_FAILED;

	if (!ok)
		return false;
	fill_pages(p, AREA, 1);
	ok = mem_child(check_copy, p) == 0 && wrong_pages(p, AREA, 1) == 0;
	munmap(p, AREA);
	return ok;
}

#define GIGANTIC	"/sys/kernel/mm/hugepages/hugepages-1048576kB/"

/* A 1 GiB page: a guest of the default size has no room for one. */
static void gigantic(void)
{
	const char *what = "a hugetlb page of 1 GiB";
	long before = mem_read_number(GIGANTIC "nr_hugepages");

	if (before < 0) {
		ktap_skip(what, "this CPU has none");
		return;
	}
	if (mem_read_number(GIGANTIC "free_hugepages") < 1)
		mem_write_number(GIGANTIC "nr_hugepages", before + 1);
	if (mem_read_number(GIGANTIC "free_hugepages") < 1)
		ktap_skip(what, "no room; dunelab exec --memory 3072 --append hugepagesz=1G "
				"--append hugepages=1");
	else
		ktap_ok(hugetlb_use(GIB, 30 << MAP_HUGE_SHIFT), "%s", what);
	mem_write_number(GIGANTIC "nr_hugepages", before);
}

int main(void)
{
	long pool;

	ktap_plan(DUNE_TEST_ENTER + 10 + DUNE_TEST_LEAVE);
	dune_test_enter();
	thp_on();
	ktap_ok(made(), "transparent huge pages are there, with their contents");
	ktap_ok(split_by_calls(), "parts of them discarded, protected, unmapped");
	ktap_ok(split_in_place(), "split while a thread in Dune mode counts in them");
	ktap_ok(collapsed(by_madvise), "small pages collapsed by MADV_COLLAPSE meanwhile");
	ktap_ok(collapsed(by_khugepaged), "and by khugepaged");
	ktap_ok(copied(), "copied by a fork, and each side writes its own");
	thp_restore();

	pool = mem_read_number("/proc/sys/vm/nr_hugepages");
	mem_write_number("/proc/sys/vm/nr_hugepages", pool + 10);
	ktap_eq(mem_read_number("/proc/sys/vm/nr_hugepages"), pool + 10, "ten hugetlb pages of 2 MiB");
	ktap_ok(hugetlb_use(AREA, 0), "hugetlb: contents");
	ktap_ok(hugetlb_copied(), "hugetlb: copied by a fork");
	mem_write_number("/proc/sys/vm/nr_hugepages", pool);
	gigantic();
	return dune_test_done();
}
