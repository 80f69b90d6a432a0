/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * fork, threads, posix_spawn and exec out of Dune mode.  What they make
 * starts outside, as an ordinary process or thread, and may enter itself.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../trap.h"

#include <pthread.h>
#include <spawn.h>

extern char **environ;

static volatile unsigned int handled;

static void on_ud2(struct dune_tf *tf)
{
	handled++;
	tf->rip += 2;
}

static volatile int value = 1;
static int *shared;

/* The child's side: outside, with a copy of the memory; then inside. */
static int child_body(bool enters)
{
	if (dune_test_cpl() != 3 || dune_in_guest())
		return 10;
	if (value != 1)
		return 11;
	value = 2;
	if (!enters)
		return 42;
	if (dune_enter() || dune_test_cpl() != 0 || !dune_test_counters_move())
		return 12;
	handled = 0;
	asm volatile("ud2" : : : "memory");
	if (handled != 1)
		return 13;
	*shared = (int)getpid();
	return 43;
}

static int fork_and_wait(bool enters, pid_t *pid)
{
	int status = -1;

	*pid = fork();
	if (*pid == 0)
		_exit(child_body(enters));
	waitpid(*pid, &status, 0);
	return status;
}

static __thread int tls_word = 5;

struct thread {
	pthread_t id;
	unsigned int nr;
	int outside;		/* it started outside */
	int inside;		/* and entered */
	int tls;
	uint64_t sum;
};

static void *thread_body(void *arg)
{
	struct thread *t = arg;

	t->outside = dune_test_cpl() == 3 && !dune_in_guest() && dune_vcpu_stats() == NULL;
	t->tls = tls_word == 5;
	tls_word = (int)t->nr;
	if (t->nr & 1) {	/* every other one enters */
		t->inside = dune_enter() == 0 && dune_test_cpl() == 0 && dune_test_counters_move();
		asm volatile("ud2" : : : "memory");
	}
	for (unsigned int i = 0; i < 100000; i++)
		t->sum += i ^ t->nr;
	t->tls &= tls_word == (int)t->nr;
	return t;
}

#define THREADS	8

static void threads(void)
{
	struct thread t[THREADS];
	unsigned int made = 0, joined = 0, outside = 0, inside = 0, tls = 0;

	memset(t, 0, sizeof(t));
	handled = 0;
	for (unsigned int i = 0; i < THREADS; i++) {
		t[i].nr = i;
		made += pthread_create(&t[i].id, NULL, thread_body, &t[i]) == 0;
	}
	for (unsigned int i = 0; i < made; i++) {
		void *ret = NULL;

		joined += pthread_join(t[i].id, &ret) == 0 && ret == &t[i];
		outside += t[i].outside != 0;
		inside += t[i].inside != 0;
		tls += t[i].tls != 0;
	}
	ktap_ok(made == THREADS && joined == THREADS, "%d threads were made and joined", THREADS);
	ktap_eq(outside, THREADS, "each started outside");
	ktap_eq(inside, THREADS / 2, "every other one entered");
	ktap_eq(tls, THREADS, "each had its own thread-local storage");
	ktap_ok(tls_word == 5 && dune_test_cpl() == 0, "and this one kept its own");
}

static bool spawns(void)
{
	char *argv[] = { (char *)"fork_thread", (char *)"--spawned", NULL };
	int status = -1;
	pid_t pid;

	if (posix_spawn(&pid, "/proc/self/exe", NULL, NULL, argv, environ))
		return false;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && WEXITSTATUS(status) == 44;
}

int main(int argc, char **argv)
{
	unsigned int good = 0;
	pid_t pid;
	int status;

	if (argc > 1 && !strcmp(argv[1], "--spawned"))
		_exit(dune_test_cpl() == 3 ? 44 : 45);

	ktap_plan(DUNE_TEST_ENTER + 11 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	dune_test_enter();
	dune_register_intr_handler(TRAP_UD, on_ud2);

	status = fork_and_wait(false, &pid);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 42,
		"the child of a fork is outside, with a copy of the memory (%s)", child_status(status));
	ktap_ok(value == 1 && dune_test_cpl() == 0, "the parent is inside, with its own");
	status = fork_and_wait(true, &pid);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 43, "a child may enter (%s)",
		child_status(status));
	ktap_eq(*shared, pid, "and works there");
	for (unsigned int i = 0; i < 50; i++) {
		status = fork_and_wait(i & 1, &pid);
		good += WIFEXITED(status) && WEXITSTATUS(status) == (i & 1 ? 43 : 42);
	}
	ktap_eq(good, 50, "fifty more");
	ktap_ok(spawns(), "posix_spawn of a program");
	threads();
	return dune_test_done();
}
