/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=13 */
/*
 * Children and threads in Dune mode where libdune could find no room for its
 * own descriptors, or no device: a used-up or lowered limit of open files, a
 * root directory without /dev.  None of that keeps a process from forking.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>

#define NR_THREADS	400

static int wait_for(pid_t pid)
{
	int status = -1;

	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

static bool fork_works(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(dune_test_cpl() == 0 ? 0 : 1);
	status = wait_for(pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void *cpl(void *arg)
{
	(void)arg;
	return (void *)(uintptr_t)dune_test_cpl();
}

static bool thread_works(void)
{
	pthread_t thread;
	void *ret;

	return !pthread_create(&thread, NULL, cpl, NULL) && !pthread_join(thread, &ret) &&
	       ret == NULL;
}

static bool limit_is(rlim_t soft, rlim_t hard)
{
	struct rlimit now;

	return !getrlimit(RLIMIT_NOFILE, &now) && now.rlim_cur == soft && now.rlim_max == hard;
}

static void used_up(void)
{
	struct rlimit limit = { 64, 64 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		_exit(10);
	while (open("/dev/null", O_RDONLY) >= 0)
		;
	_exit(errno == EMFILE && fork_works() && thread_works() && limit_is(64, 64) &&
	      open("/dev/null", O_RDONLY) < 0 && errno == EMFILE ? 0 : 11);
}

static void lowered(void)
{
	struct rlimit limit = { 0, 0 };

	if (setrlimit(RLIMIT_NOFILE, &limit))
		_exit(10);
	_exit(fork_works() && thread_works() && limit_is(0, 0) ? 0 : 11);
}

static void no_device(void)
{
	if (chroot("/sys") || chdir("/"))
		_exit(10);
	_exit(access("/dev/dune", F_OK) && fork_works() && thread_works() ? 0 : 11);
}

static pthread_barrier_t barrier;

static void *wait_at_barrier(void *arg)
{
	pthread_barrier_wait(&barrier);
	return arg;
}

/* More threads than there are numbers above the program's: none of these is taken. */
static void many_threads(void)
{
	static pthread_t threads[NR_THREADS];
	struct rlimit limit = { 1024, 1024 };
	int fd, last = -1, nr = 0;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	if (setrlimit(RLIMIT_NOFILE, &limit) ||
	    pthread_barrier_init(&barrier, NULL, NR_THREADS + 1))
		_exit(10);
	for (int i = 0; i < NR_THREADS; i++)
		if (pthread_create(&threads[i], &attr, wait_at_barrier, NULL))
			_exit(11);
	while ((fd = open("/dev/null", O_RDONLY)) >= 0) {
		last = fd;
		nr++;
	}
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	_exit(nr >= 700 && last < 1024 ? 0 : 12);
}

static void in_child(void (*what)(void), const char *name)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		what();
	status = wait_for(pid);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s (%s)", name,
		child_status(status));
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	dune_test_enter();
	in_child(used_up, "fork and thread with all descriptors used up");
	in_child(lowered, "fork and thread with a limit of no descriptor");
	in_child(no_device, "fork and thread in a root without /dev");
	in_child(many_threads, "400 threads leave the program its descriptors");
	return dune_test_done();
}
