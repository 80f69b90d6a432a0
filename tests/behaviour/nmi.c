/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 smp */
/*
 * NMIs that meet a CPU in guest mode are the host's: it takes them, and the
 * guest goes on as if nothing had been.  An ordinary process on the other CPU
 * has the kernel send them, as SysRq-L does to show what all CPUs are at.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <fcntl.h>
#include <sys/klog.h>

#define NMIS		20
#define WORDS		512
#define CONSOLE_LEVEL	8	/* syslog(2): SYSLOG_ACTION_CONSOLE_LEVEL */
#define QUIET		1
#define USUAL		5	/* what the guests boot with */

static volatile struct {
	int done;
} *shared;

/* The backtraces go to the kernel's log only: on the console they would look like a splat. */
static int send_nmis(void *arg)
{
	struct timespec nap = { 0, 5000000 };
	int fd, failed = 0;

	(void)arg;
	fd = open("/proc/sysrq-trigger", O_WRONLY);
	failed |= fd < 0 || cpus_pin(0, 1) || klogctl(CONSOLE_LEVEL, NULL, QUIET);
	for (unsigned int i = 0; i < NMIS && !failed; i++) {
		failed |= write(fd, "l", 1) != 1;
		nanosleep(&nap, NULL);
	}
	failed |= klogctl(CONSOLE_LEVEL, NULL, USUAL) != 0;
	shared->done = 1;
	return failed;
}

int main(void)
{
	static uint64_t memory[WORDS];
	unsigned int changed = 0;
	unsigned long rounds = 0;
	struct child child;
	uint64_t before, taken;

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	if (cpus_count() < 2)
		ktap_bail("this test needs two CPUs");
	child = child_start(send_nmis, NULL);
	cpus_pin(0, 0);
	dune_test_enter();

	before = dune_test_stats().exit[DUNE_STAT_NMI].count;
	child_go(&child);
	while (!shared->done) {
		double number = (double)rounds * 0.5;

		for (uint64_t i = 0; i < WORDS; i++)
			memory[i] = rounds + i;
		for (uint64_t i = 0; i < WORDS; i++)
			changed += memory[i] != rounds + i;
		changed += number + number != (double)rounds || dune_test_cpl() != 0;
		rounds++;
	}
	taken = dune_test_stats().exit[DUNE_STAT_NMI].count - before;

	ktap_eq(child_wait(&child), 0, "%d NMIs were asked for", NMIS);
	ktap_ok(taken > 0 && taken <= NMIS, "%lu of them ended guest mode", (unsigned long)taken);
	ktap_eq(changed, 0, "nothing changed in %lu rounds", rounds);
	return dune_test_done();
}
