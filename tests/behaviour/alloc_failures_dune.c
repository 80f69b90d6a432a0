/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=900 */
/*
 * No memory, at each place where the kernel may have none: while a process
 * enters Dune mode, forks in it, starts a thread, maps and touches memory.
 * Each ends by an error or well, as it does in an ordinary process, and what
 * failed works when it is tried again.
 *
 * tests/native/alloc_failures.c does the same with the module's calls alone.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../fail_nth.h"

#include <pthread.h>

#define PAGE		4096UL
#define NR_PAGES	16UL

enum { ENTERED, REFUSED, NOT_SAID, BY_HALF };

static volatile struct {
	int came;
	long ret;
} *shared;

/* ---- entering: each time in a process of its own ------------------------------ */

static void enter_in_child(unsigned int n)
{
	int fd = fail_open();
	long ret;

	fail_arm(fd, n);
	ret = dune_test_native() ? -EPERM : dune_init_and_enter();
	shared->came = fail_disarm(fd);
	shared->ret = ret;
	if (ret)
		_exit(fail_said(ret) ? REFUSED : NOT_SAID);
	_exit(dune_test_cpl() == 0 && dune_test_counters_move() ? ENTERED : BY_HALF);
}

/* Two results.  Returns how many places there were. */
static unsigned int walk_enter(void)
{
	unsigned int n, refused = 0, odd = 0;
	int status = 0;

	shared->came = 1;
	for (n = 1; shared->came && !odd && n < FAIL_MOST; n++) {
		pid_t pid = fork();

		if (pid < 0)
			ktap_bail("fork: %s", strerror(errno));
		if (pid == 0)
			enter_in_child(n);
		if (waitpid(pid, &status, 0) != pid)
			ktap_bail("waitpid: %s", strerror(errno));
		refused += status != 0;
		odd = status && !(WIFEXITED(status) && WEXITSTATUS(status) == REFUSED &&
				  shared->came);
		if (odd)
			ktap_note("place %u: %s, %s", n, child_status(status),
				  strerror((int)-shared->ret));
	}
	n -= 2;
	ktap_note("entering: %u places, refused at %u", n, refused);
	ktap_ok(!odd, "entering fails by ENOMEM, EAGAIN or EFAULT");
	ktap_ok(!shared->came && status == 0, "entering succeeds when nothing fails");
	return n;
}

/* ---- in Dune mode --------------------------------------------------------------- */

static long run_fork(void *arg)
{
	pid_t pid = fork();

	(void)arg;
	if (pid == 0)
		_exit(dune_test_cpl() == 0 ? 0 : 1);
	return pid < 0 ? -errno : pid;
}

static void undo_fork(void *arg, long pid)
{
	int status = -1;

	(void)arg;
	if (waitpid((pid_t)pid, &status, 0) != pid || status)
		ktap_bail("the child: %s", child_status(status));
}

static void again_fork(void *arg)
{
	long pid = run_fork(arg);

	if (pid < 0)
		ktap_bail("fork again: %s", strerror((int)-pid));
	undo_fork(arg, pid);
}

static pthread_t thread;

static void *thread_cpl(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)dune_test_cpl();
}

static long run_thread(void *arg)
{
	(void)arg;
	return -(long)pthread_create(&thread, NULL, thread_cpl, NULL);
}

static void undo_thread(void *arg, long ret)
{
	void *cpl = NULL;

	(void)arg, (void)ret;
	if (pthread_join(thread, &cpl) || cpl)
		ktap_bail("the thread's CPL is %lu", (unsigned long)(uintptr_t)cpl);
}

static void again_thread(void *arg)
{
	long ret = run_thread(arg);

	if (ret)
		ktap_bail("pthread_create again: %s", strerror((int)-ret));
	undo_thread(arg, ret);
}

static long run_map(void *arg)
{
	unsigned char *p = mmap(NULL, NR_PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long ret = 0;

	(void)arg;
	if (p == MAP_FAILED)
		return -errno;
	for (unsigned long i = 0; i < NR_PAGES; i++)
		((volatile unsigned char *)p)[i * PAGE]++;
	for (unsigned long i = 0; i < NR_PAGES; i++)
		if (p[i * PAGE] != 1)
			ret = -EPROTO;
	/* munmap() may fail, too: it splits. */
	while (munmap(p, NR_PAGES * PAGE))
		if (!fail_said(-errno))
			return -errno;
	return ret;
}

static const struct fail_op ops[] = {
	{ "fork", NULL, run_fork, again_fork, undo_fork },
	{ "pthread_create", NULL, run_thread, again_thread, undo_thread },
	{ "new memory", NULL, run_map, NULL, NULL },
};

#define NR_OPS		(sizeof(ops) / sizeof(ops[0]))
#define RESULTS		(3 + 3 * (unsigned int)NR_OPS)

/* Below what the kernel needs for it, natively too. */
static const unsigned int at_least[NR_OPS] = { 20, 5, NR_PAGES };

int main(void)
{
	const char *why = fail_setup();

	ktap_plan(RESULTS + (why ? 0 : DUNE_TEST_ENTER + DUNE_TEST_LEAVE));
	if (why) {
		for (unsigned int i = 0; i < RESULTS; i++)
			ktap_skip("failures", why);
		return ktap_done();
	}
	shared = child_shared(sizeof(*shared));
	ktap_ok(walk_enter() >= 20, "entering has its places");

	dune_test_enter();
	for (unsigned int i = 0; i < NR_OPS; i++) {
		unsigned int places = fail_walk(&ops[i], NULL);

		ktap_ok(places >= at_least[i], "%s has its places", ops[i].name);
	}
	return dune_test_done();
}
