/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 */
/*
 * Two hundred processes enter and exit one after the other, and nothing of
 * them stays: no memory, no reference to the module.
 *
 * Memory is what /proc/meminfo cannot name: the total less what is free (in
 * the per-CPU lists too), cached, anonymous, slab, stacks and page tables.
 * That is where pages that a module forgot show up, and little else: it moves
 * by some 100 KiB on an idle system, and a single page per process would be
 * 800.  Half of that is the limit; for the slab, 1 KiB per process.  Half of
 * the processes are killed rather than left to exit.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>

#define WARM_UP		40
#define PROCESSES	200
#define PAGES_LIMIT	(PROCESSES * 4 / 2)	/* KiB */
#define SLAB_LIMIT	PROCESSES		/* KiB */

/* The result of one process: from the child, by shared memory. */
static volatile struct {
	int entered;
	int cpl;
} *report;

/* A /proc file as text, cut at the buffer's size. */
static void read_file(const char *file, char *buf, size_t size)
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
static long sum_of(const char *text, const char *name)
{
	long sum = 0;

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += strspn(line, " \n");
		if (!strncmp(line, name, strlen(name)))
			sum += strtol(line + strlen(name), NULL, 10);
	}
	return sum;
}

struct memory {
	long unnamed, slab;	/* KiB */
};

static struct memory measure(void)
{
	static const char *const named[] = {
		"MemFree:", "Buffers:", "Cached:", "SwapCached:", "AnonPages:", "SReclaimable:",
		"SUnreclaim:", "KernelStack:", "PageTables:", "SecPageTables:", "Percpu:",
	};
	static char text[1 << 16];
	struct memory m;

	read_file("/proc/meminfo", text, sizeof(text));
	m.slab = sum_of(text, "SUnreclaim:");
	m.unnamed = sum_of(text, "MemTotal:");
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++)
		m.unnamed -= sum_of(text, named[i]);
	read_file("/proc/zoneinfo", text, sizeof(text));
	m.unnamed -= sum_of(text, "count:") * 4;
	return m;
}

/* After the module's deferred work: a VM is freed once a grace period is over. */
static struct memory settled(void)
{
	struct timespec nap = { 0, 500000000 };
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd < 0 || write(fd, "3", 1) != 1)
		ktap_note("drop_caches: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	nanosleep(&nap, NULL);
	return measure();
}

static long references(void)
{
	char text[32];

	read_file("/sys/module/dune/refcnt", text, sizeof(text));
	return text[0] ? strtol(text, NULL, 10) : -1;
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

static unsigned int run(unsigned int processes)
{
	unsigned int good = 0;

	for (unsigned int i = 0; i < processes; i++)
		good += one(i);
	return good;
}

int main(void)
{
	struct memory before, after;
	long refs_before, refs_after;

	ktap_plan(5 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	report = child_shared(sizeof(*report));

	ktap_eq(run(WARM_UP), WARM_UP, "%d processes to warm up", WARM_UP);
	refs_before = references();
	before = settled();
	ktap_eq(run(PROCESSES), PROCESSES, "%d processes entered and ended as they should",
		PROCESSES);
	after = settled();
	refs_after = references();

	ktap_metric("page_growth", (after.unnamed - before.unnamed) * 1024, "bytes");
	ktap_metric("slab_growth", (after.slab - before.slab) * 1024, "bytes");
	ktap_ok(after.unnamed - before.unnamed < PAGES_LIMIT,
		"pages that nobody names grew by %ld KiB, from %ld", after.unnamed - before.unnamed,
		before.unnamed);
	ktap_ok(after.slab - before.slab < SLAB_LIMIT, "the slab grew by %ld KiB",
		after.slab - before.slab);
	ktap_ok(refs_before == 0 && refs_after == 0, "nobody holds the module (%ld, %ld)",
		refs_before, refs_after);

	/* And one more, which is this process. */
	dune_test_enter();
	return dune_test_done();
}
