/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 */
/*
 * Two hundred processes enter and exit one after the other, and nothing of
 * them stays: no memory, no reference to the module.
 *
 * Memory: the 200 are five batches of 40, after a first batch that warms the
 * kernel's caches.  A leak of a single page per process shows as 160 KiB in
 * every batch; whatever else the system does shows in some of them.  So the
 * smallest growth of the five must stay below that.  Half of the processes
 * are killed rather than left to exit.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>

#define BATCHES		5
#define PER_BATCH	40
#define LEAK_KIB	(PER_BATCH * 4)

/* The result of one process: from the child, by shared memory. */
static volatile struct {
	int entered;
	int cpl;
} *report;

/* One line "name: number" of a /proc file; -1 if it is not there. */
static long proc_number(const char *file, const char *name)
{
	char buf[4096], *at = buf;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	if (name) {
		at = strstr(buf, name);
		if (!at)
			return -1;
		at += strlen(name);
	}
	return strtol(at, NULL, 10);
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd >= 0) {
		if (write(fd, "3", 1) != 1)
			ktap_note("drop_caches: %s", strerror(errno));
		close(fd);
	}
}

/*
 * The module frees a VM after a grace period: wait until the free memory
 * stops growing, two seconds at most.
 */
static long settled(const char *name)
{
	struct timespec nap = { 0, 100000000 };
	long last = -1, now;

	drop_caches();
	for (int i = 0; i < 20; i++) {
		nanosleep(&nap, NULL);
		now = proc_number("/proc/meminfo", name);
		if (last >= 0 && labs(now - last) < 16)
			return now;
		last = now;
	}
	return last;
}

/* Native parent, Dune child. */
static bool one(unsigned int i)
{
	int status;
	pid_t pid;

	report->entered = 0;
	report->cpl = -1;
	pid = fork();
	if (pid == 0) {
		char *p;

		if (dune_test_enter_silently())
			_exit(DUNE_TEST_NOT_IN_GUEST);
		p = malloc(1 << 20);
		memset(p, (int)i, 1 << 20);
		report->cpl = (int)dune_test_cpl();
		report->entered = 1;
		if (i & 1)
			kill(getpid(), SIGKILL);
		_exit(p[i]  == (char)i ? 33 : 34);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (i & 1)
		return report->entered && report->cpl == 0 && WIFSIGNALED(status) &&
		       WTERMSIG(status) == SIGKILL;
	return report->entered && report->cpl == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 33;
}

static unsigned int batch(void)
{
	unsigned int good = 0;

	for (unsigned int i = 0; i < PER_BATCH; i++)
		good += one(i);
	return good;
}

int main(void)
{
	long free_before, slab_before, slab_after, refs_before, refs_after;
	long growth[BATCHES], least = 1L << 40, total = 0;
	unsigned int good = 0;

	ktap_plan(5 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	report = child_shared(sizeof(*report));

	ktap_eq(batch(), PER_BATCH, "a first batch of %d processes", PER_BATCH);
	refs_before = proc_number("/sys/module/dune/refcnt", NULL);
	free_before = settled("MemFree:");
	slab_before = proc_number("/proc/meminfo", "SUnreclaim:");

	for (int b = 0; b < BATCHES; b++) {
		long now;

		good += batch();
		now = settled("MemFree:");
		growth[b] = free_before - now;
		free_before = now;
		total += growth[b];
		if (growth[b] < least)
			least = growth[b];
		ktap_note("batch %d: %ld KiB less free memory", b, growth[b]);
	}
	slab_after = proc_number("/proc/meminfo", "SUnreclaim:");
	refs_after = proc_number("/sys/module/dune/refcnt", NULL);

	ktap_metric("memory_growth", total * 1024, "bytes");
	ktap_metric("slab_growth", (slab_after - slab_before) * 1024, "bytes");
	ktap_eq(good, BATCHES * PER_BATCH, "%d processes entered and ended as they should",
		BATCHES * PER_BATCH);
	ktap_ok(least < LEAK_KIB, "no batch but grows: the least is %ld KiB, a leak is %d", least,
		LEAK_KIB);
	ktap_ok(slab_after - slab_before < BATCHES * LEAK_KIB, "the slab grew by %ld KiB",
		slab_after - slab_before);
	ktap_ok(refs_before == 0 && refs_after == 0, "nobody holds the module (%ld, %ld)",
		refs_before, refs_after);

	/* And one more, which is this process. */
	dune_test_enter();
	return dune_test_done();
}
