/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=300 slow-bochs=43 thorough */
/*
 * A hundred processes enter and exit one after the other, and nothing of
 * them stays: no memory, no reference to the module.
 *
 * A single page per process would be 400 KiB.  Half of that is the limit; for
 * the slab, 1 KiB per process.  Half of the processes are killed rather than
 * left to exit.
 *
 * A kernel with full preemption fills its slab's lists of free objects later
 * than others: 164 KiB in the first hundred of 7.3's, then none.  What stays of
 * each process stays of the next hundred, too.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../meminfo.h"

#define WARM_UP		20
#define PROCESSES	100
#define ROUNDS		3
#define PAGES_LIMIT	(PROCESSES * 4 / 2)	/* KiB */
#define SLAB_LIMIT	PROCESSES		/* KiB */

/* The result of one process: from the child, by shared memory. */
static volatile struct {
	int entered;
	int cpl;
} *report;

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

static bool grew(const struct meminfo *before, const struct meminfo *after)
{
	return after->unnamed - before->unnamed >= PAGES_LIMIT ||
	       after->slab - before->slab >= SLAB_LIMIT;
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
	struct meminfo before, after;
	unsigned int good = 0, rounds = 0;
	long refs_before, refs_after;

	ktap_plan(5 + DUNE_TEST_ENTER + DUNE_TEST_LEAVE);
	report = child_shared(sizeof(*report));

	ktap_eq(run(WARM_UP), WARM_UP, "%d processes to warm up", WARM_UP);
	refs_before = meminfo_references();
	after = meminfo_settled();
	do {
		before = after;
		good += run(PROCESSES);
		after = meminfo_settled();
		rounds++;
	} while (grew(&before, &after) && rounds < ROUNDS);
	ktap_eq(good, rounds * PROCESSES, "%u times %d processes entered and ended as they should",
		rounds, PROCESSES);
	refs_after = meminfo_references();

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
