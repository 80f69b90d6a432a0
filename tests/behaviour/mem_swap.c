/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=90 slow-bochs=48 thorough */
/*
 * Swap (zram) under a Dune process: pages that go out come back with their
 * contents, by guest mode's touch, while others work on them, in a cgroup that
 * holds a third of them, after a fork, and when swap is turned off.
 */
#define _GNU_SOURCE
#define GROUP_NAME "mem_swap"
#include "../group.h"

#include <pthread.h>
#include <sched.h>
#include <sys/swap.h>

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif

#define DISK	"/dev/zram0"
#define SIZE	(48 * MIB)
#define AREA	(6 * MIB)
#define PAGES	(AREA / PAGE)

/* ---- the swap device --------------------------------------------------------- */

/* What mkswap(8) writes: a page with the version, the last page, and a signature at its end. */
static bool write_header(void)
{
	static unsigned char page[PAGE];
	uint32_t *info = (uint32_t *)(void *)(page + 1024);
	int fd = open(DISK, O_WRONLY | O_CLOEXEC);
	bool ok;

	info[0] = 1;
	info[1] = SIZE / PAGE - 1;
	memcpy(page + PAGE - 10, "SWAPSPACE2", 10);
	ok = fd >= 0 && pwrite(fd, page, PAGE, 0) == (ssize_t)PAGE && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static void swap_on(void)
{
	int status = system("modprobe zram");

	if (status)
		ktap_bail("modprobe zram: %s", child_status(status));
	if (!mem_write_number("/sys/block/zram0/disksize", SIZE))
		ktap_bail("zram0/disksize: %s", strerror(errno));
	for (int i = 0; i < 100 && access(DISK, F_OK); i++)
		usleep(10000);
	if (!write_header() || swapon(DISK, 0))
		ktap_bail("swapon: %s", strerror(errno));
}

static bool swap_off(void)
{
	return swapoff(DISK) == 0;
}

static bool unload(void)
{
	return mem_write_text("/sys/block/zram0/reset", "1") && system("rmmod zram") == 0;
}

/* ---- going out and coming back ------------------------------------------------- */

static size_t swapped(const unsigned char *p)
{
	static uint64_t entries[PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t n = 0;

	if (fd < 0 || pread(fd, entries, sizeof(entries), (off_t)((uintptr_t)p / PAGE * 8)) !=
		      (ssize_t)sizeof(entries))
		ktap_bail("pagemap: %s", strerror(errno));
	close(fd);
	for (size_t i = 0; i < PAGES; i++)
		n += !!(entries[i] & MEM_PM_SWAP);
	return n;
}

/* Most of it: a page that is just in somebody's hands stays. */
static bool page_out(unsigned char *p)
{
	double end = child_now() + 10;

	while (swapped(p) < PAGES * 9 / 10 && child_now() < end)
		if (madvise(p, AREA, MADV_PAGEOUT))
			return false;
	return swapped(p) >= PAGES * 9 / 10;
}

static bool round_trip(void)
{
	unsigned char *p = mem_new(AREA);
	bool ok = true;

	for (unsigned int round = 0; round < 2; round++) {
		mem_fill(p, AREA, round);
		ok &= page_out(p) && mem_wrong(p, AREA, round) == 0 && swapped(p) == 0;
		/* Unchanged they go without being written; changed they must be. */
		ok &= page_out(p);
		for (size_t i = 0; i < PAGES; i += 2)
			mem_fill(p + i * PAGE, PAGE, 100 + i);
		ok &= page_out(p);
		for (size_t i = 0; i < PAGES; i++)
			ok &= i % 2 ? mem_wrong_from(p + i * PAGE, PAGE, round, i * PAGE / 8) == 0 :
				      mem_wrong(p + i * PAGE, PAGE, 100 + i) == 0;
	}
	munmap(p, AREA);
	return ok;
}

static bool by_calls(void)
{
	unsigned char *p = mem_new(AREA), buf[8 * PAGE];
	int fd = memfd_create("mem_swap", MFD_CLOEXEC);
	bool ok;

	mem_fill(p, AREA, 5);
	ok = page_out(p) && write(fd, p + MIB, 8 * PAGE) == 8 * PAGE;
	ok &= pread(fd, buf, 8 * PAGE, 0) == 8 * PAGE;
	ok &= mem_wrong_from(buf, 8 * PAGE, 5, MIB / 8) == 0;
	ok &= mprotect(p, AREA, PROT_READ) == 0 && page_out(p) && mem_wrong(p, AREA, 5) == 0;
	close(fd);
	munmap(p, AREA);
	return ok;
}

static int check_copy(void *p)
{
	if (mem_wrong(p, AREA, 6))
		return 1;
	mem_fill(p, AREA, 7);
	return mem_wrong(p, AREA, 7) ? 2 : 0;
}

static bool forked(void)
{
	unsigned char *p = mem_new(AREA);
	int status;
	bool ok;

	mem_fill(p, AREA, 6);
	ok = page_out(p);
	status = mem_child(check_copy, p);
	if (status)
		ktap_note("the child: %s", child_status(status));
	ok &= status == 0 && mem_wrong(p, AREA, 6) == 0;
	munmap(p, AREA);
	return ok;
}

/* ---- somebody counts meanwhile --------------------------------------------------- */

static struct {
	uint64_t *p;
	volatile int stop, inside;
	volatile unsigned long rounds, wrong;
} worker;

static void *work(void *arg)
{
	(void)arg;
	worker.inside = mem_thread_inside() ? 1 : -1;
	while (!worker.stop) {
		for (size_t i = 0; i < PAGES; i++)
			worker.wrong += worker.p[i * (PAGE / 8)]++ != worker.rounds;
		worker.rounds++;
		sched_yield();
	}
	return NULL;
}

static bool under_way(void)
{
	unsigned char *p = mem_new(AREA);
	long out = mem_field("/proc/vmstat", "pswpout");
	pthread_t thread;
	double now, end;
	long gone;

	worker.p = (uint64_t *)(void *)p;
	if (pthread_create(&thread, NULL, work, NULL))
		return false;
	end = child_now() + 2;
	do {
		madvise(p, AREA, MADV_PAGEOUT);
		gone = mem_field("/proc/vmstat", "pswpout") - out;
		now = child_now();
	} while (now < end || (worker.inside >= 0 && now < end + 60 &&
			       (worker.rounds < 3 || gone <= (long)PAGES / 2)));
	worker.stop = 1;
	pthread_join(thread, NULL);
	for (size_t i = 0; i < PAGES; i++)
		worker.wrong += worker.p[i * (PAGE / 8)] != worker.rounds;
	ktap_note("%ld pages went out in %lu rounds", gone, worker.rounds);
	munmap(p, AREA);
	return worker.inside == 1 && worker.wrong == 0 && gone > (long)PAGES / 2;
}

/* ---- under pressure ----------------------------------------------------------------- */

static int works_in_little(void *arg)
{
	unsigned char *p = mem_new(AREA);

	(void)arg;
	if (!mem_write_number(file_in_group("cgroup.procs"), (long)getpid()))
		return 100;
	for (unsigned int round = 0; round < 3; round++) {
		mem_fill(p, AREA, 40 + round);
		if (mem_wrong(p, AREA, 40 + round))
			return 1;
	}
	return 0;
}

static bool under_pressure(void)
{
	long out = mem_field("/proc/vmstat", "pswpout");
	int status;
	bool ok;

	make_group("+memory");
	ok = mem_write_number(file_in_group("memory.max"), AREA / 3);
	status = mem_child(works_in_little, NULL);
	out = mem_field("/proc/vmstat", "pswpout") - out;
	ktap_note("%s, %ld pages went out", child_status(status), out);
	return remove_group() && ok && status == 0 && out > (long)PAGES;
}

int main(void)
{
	unsigned char *p;
	bool out;

	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	if (mem_field("/proc/vmstat", "pswpout") < 0)
		ktap_bail("no pswpout in /proc/vmstat: a kernel without VM_EVENT_COUNTERS");
	dune_test_enter();
	swap_on();
	ktap_ok(round_trip(), "out and back, changed and unchanged");
	ktap_ok(by_calls(), "back by a system call, and read-only");
	ktap_ok(forked(), "out when the process is copied");
	ktap_ok(under_way(), "out and back while a thread in Dune mode counts");
	ktap_ok(under_pressure(), "a cgroup with a third of the memory");
	p = mem_new(AREA);
	mem_fill(p, AREA, 9);
	out = page_out(p);
	ktap_ok(swap_off() && out && swapped(p) == 0, "swapoff");
	ktap_eq(mem_wrong(p, AREA, 9), 0, "brings all of it back");
	ktap_ok(unload(), "and nothing holds on to the device");
	return dune_test_done();
}
