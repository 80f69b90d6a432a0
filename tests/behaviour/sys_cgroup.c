/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=17 */
/*
 * The cgroup of a Dune process: frozen, it leaves guest mode and stands still,
 * thawed it goes on, and cgroup.kill ends it; cpu.max and pids.max hold.
 */
#define _GNU_SOURCE
#define GROUP_NAME "sys_cgroup"
#include "../group.h"

#include <pthread.h>

#define SPINNERS	3

static volatile struct {
	unsigned long loops;
	int inside;
} *spinner;

static void *spin_thread(void *arg)
{
	size_t i = (size_t)(uintptr_t)arg;

	spinner[i].inside = mem_thread_inside();
	for (;;)
		spinner[i].loops++;
	return NULL;
}

/* In guest mode for ever, without a system call; one of them with a second thread. */
static pid_t start_spinner(size_t i)
{
	pid_t pid = fork();
	pthread_t thread;

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!mem_write_number(file_in_group("cgroup.procs"), (long)getpid()))
		_exit(100);
	if (i == 0 && pthread_create(&thread, NULL, spin_thread, (void *)SPINNERS))
		_exit(101);
	spin_thread((void *)i);
	_exit(102);
}

static bool all_move(void)
{
	unsigned long before[SPINNERS + 1];
	double end = child_now() + 20;
	size_t n = 0;

	for (size_t i = 0; i <= SPINNERS; i++)
		before[i] = spinner[i].loops;
	while (n <= SPINNERS && child_now() < end) {
		usleep(5000);
		for (n = 0; n <= SPINNERS && spinner[n].loops != before[n]; n++)
			;
	}
	return n > SPINNERS;
}

static bool all_stand(void)
{
	unsigned long before[SPINNERS + 1];
	bool ok = true;

	for (size_t i = 0; i <= SPINNERS; i++)
		before[i] = spinner[i].loops;
	usleep(100000);
	for (size_t i = 0; i <= SPINNERS; i++)
		ok &= spinner[i].loops == before[i];
	return ok;
}

static bool wait_event(const char *name, long want)
{
	double end = child_now() + 20;

	while (mem_field(file_in_group("cgroup.events"), name) != want && child_now() < end)
		usleep(2000);
	return mem_field(file_in_group("cgroup.events"), name) == want;
}

static bool freeze(bool on)
{
	return mem_write_text(file_in_group("cgroup.freeze"), on ? "1" : "0") &&
	       wait_event("frozen", on);
}

static void freezes(void)
{
	unsigned int frozen = 0, stood = 0, moved = 0;

	for (int round = 0; round < 10; round++) {
		frozen += freeze(true);
		stood += all_stand();
		moved += freeze(false) && all_move();
	}
	ktap_eq(frozen, 10, "ten times the group is frozen");
	ktap_eq(stood, 10, "each time all of them stand still");
	ktap_eq(moved, 10, "and go on when it is thawed");
}

/* A tenth of one CPU for all of them. */
static bool throttled(void)
{
	long before, used;
	double start;
	bool ok = mem_write_text(file_in_group("cpu.max"), "10000 100000");

	usleep(200000);
	before = mem_field(file_in_group("cpu.stat"), "usage_usec");
	start = child_now();
	usleep(1000000);
	used = mem_field(file_in_group("cpu.stat"), "usage_usec") - before;
	ktap_note("%ld us in %.0f us", used, (child_now() - start) * 1e6);
	ok &= used < (child_now() - start) * 1e6 * 0.3;
	ok &= mem_field(file_in_group("cpu.stat"), "nr_throttled") > 0;
	return mem_write_text(file_in_group("cpu.max"), "max 100000") && ok;
}

static int forks_too_often(void *arg)
{
	pid_t pid[4];
	int made = 0;

	(void)arg;
	if (!mem_write_number(file_in_group("cgroup.procs"), (long)getpid()))
		return 100;
	for (int i = 0; i < 4; i++) {
		pid[made] = fork();
		if (pid[made] == 0) {
			pause();
			_exit(0);
		}
		if (pid[made] < 0 && errno != EAGAIN)
			return 101;
		made += pid[made] > 0;
	}
	for (int i = 0; i < made; i++) {
		kill(pid[i], SIGKILL);
		waitpid(pid[i], NULL, 0);
	}
	return made == 2 ? 0 : 102;
}

static bool pids_max(void)
{
	int status;
	bool ok = mem_write_text(file_in_group("pids.max"), "3");

	status = mem_child(forks_too_often, NULL);
	if (status)
		ktap_note("the child: %s", child_status(status));
	return ok && status == 0 && mem_write_text(file_in_group("pids.max"), "max");
}

static bool killed(pid_t *pid, bool frozen)
{
	bool ok = !frozen || freeze(true);

	ok &= mem_write_text(file_in_group("cgroup.kill"), "1");
	for (size_t i = 0; i < SPINNERS; i++) {
		struct child c = { .pid = pid[i] };
		int status = child_wait(&c);

		if (status != SIGKILL)
			ktap_note("%s", child_status(status));
		ok &= status == SIGKILL;
	}
	return mem_write_text(file_in_group("cgroup.freeze"), "0") &&
	       wait_event("populated", 0) && ok;
}

static unsigned int start_all(pid_t *pid)
{
	unsigned int inside = 0;

	memset((void *)spinner, 0, (SPINNERS + 1) * sizeof(*spinner));
	for (size_t i = 0; i < SPINNERS; i++)
		pid[i] = start_spinner(i);
	if (!all_move())
		ktap_note("not all of them started");
	for (size_t i = 0; i <= SPINNERS; i++)
		inside += spinner[i].inside == 1;
	return inside;
}

int main(void)
{
	pid_t pid[SPINNERS];

	ktap_plan(DUNE_TEST_ENTER + 10 + DUNE_TEST_LEAVE);
	spinner = child_shared(PAGE);
	dune_test_enter();
	make_group("+cpu +pids");
	ktap_eq(start_all(pid), SPINNERS + 1, "threads that spin in guest mode");
	freezes();
	ktap_ok(throttled(), "cpu.max");
	ktap_ok(killed(pid, false), "cgroup.kill ends those that run");
	ktap_eq(start_all(pid), SPINNERS + 1, "once more");
	ktap_ok(killed(pid, true), "and those that are frozen");
	ktap_ok(pids_max(), "pids.max");
	ktap_ok(remove_group(), "nothing holds on to the group");
	return dune_test_done();
}
