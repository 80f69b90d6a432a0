/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount spread=10 */
/*
 * fork, the child's _exit, and waitpid, with 4 MB of touched memory, which the
 * second stage has to give back each time.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "bench.h"

#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE	4096UL
#define PAGES	1024
#define FORKS	10

static unsigned char *area;
static unsigned int good;

static void forks(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(7);
		if (pid < 0)
			ktap_bail("fork: %s", strerror(errno));
		good += waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
			WEXITSTATUS(status) == 7;
	}
}

static void touch(void)
{
	for (unsigned int i = 0; i < PAGES; i++)
		((volatile unsigned char *)area)[i * PAGE] = 1;
}

int main(void)
{
	struct bench native, dune;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		ktap_note("PR_SET_THP_DISABLE: %s", strerror(errno));
	area = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	touch();
	bench_run(&native, forks, NULL, FORKS);
	dune_test_enter();
	touch();
	bench_run(&dune, forks, NULL, FORKS);
	bench_report("fork_native", &native);
	bench_report("fork_dune", &dune);
	ktap_eq(good, 2 * FORKS * (BENCH_BATCHES + 1), "every child ended as it should");
	return dune_test_done();
}
