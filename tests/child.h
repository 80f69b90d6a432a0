/* SPDX-License-Identifier: MIT */
/*
 * Children of a test.  They are made before the test enters Dune mode, wait
 * at a gate, and are let go one by one:
 *
 *	struct child c = child_start(fn, arg);
 *	dune_test_enter();
 *	child_go(&c);
 *	status = child_wait(&c);
 *
 * A child is an ordinary process until it enters Dune mode itself.
 */
#ifndef TESTS_CHILD_H
#define TESTS_CHILD_H

#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "ktap.h"

struct child {
	pid_t pid;
	int gate;
};

/* Zeroed memory that parent and children share. */
__attribute__((unused)) static void *child_shared(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		ktap_bail("shared memory: %s", strerror(errno));
	return p;
}

/* Runs fn(arg) in a new process once child_go() is called; its value is the exit status. */
__attribute__((unused)) static struct child child_start(int (*fn)(void *), void *arg)
{
	struct child c;
	int gate[2];
	char byte;

	if (pipe(gate))
		ktap_bail("pipe: %s", strerror(errno));
	c.pid = fork();
	if (c.pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(gate[1]);
		if (read(gate[0], &byte, 1) != 1)
			_exit(120);	/* the parent gave up */
		close(gate[0]);
		_exit(fn(arg));
	}
	close(gate[0]);
	c.gate = gate[1];
	return c;
}

__attribute__((unused)) static void child_go(struct child *c)
{
	if (write(c->gate, "", 1) != 1)
		ktap_bail("child %d is gone", (int)c->pid);
	close(c->gate);
}

/* Until a thread, of any process, sleeps, in whatever call; false after 20 seconds. */
__attribute__((unused)) static bool child_asleep(pid_t tid)
{
	char path[64], text[512];
	const char *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	for (int i = 0; i < 20000; i++) {
		FILE *f = fopen(path, "r");
		size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

		if (f)
			fclose(f);
		text[n] = '\0';
		state = strrchr(text, ')');	/* behind the name */
		if (state && !strncmp(state, ") S", 3))
			return true;
		usleep(1000);
	}
	return false;
}

/* The wait status. */
__attribute__((unused)) static int child_wait(struct child *c)
{
	int status = 0;

	while (waitpid(c->pid, &status, 0) < 0)
		if (errno != EINTR)
			ktap_bail("waitpid: %s", strerror(errno));
	return status;
}

/*
 * What a child that the test forks itself waits at, so that it cannot have
 * ended before its parent has seen what it waits for; made before the fork.
 */
struct child_gate {
	int end[2];
};

__attribute__((unused)) static struct child_gate child_gate(void)
{
	struct child_gate g;

	if (pipe(g.end))
		ktap_bail("pipe: %s", strerror(errno));
	return g;
}

/* In the child; returns once the parent has opened the gate or is gone. */
__attribute__((unused)) static void child_at_gate(struct child_gate g)
{
	char byte;

	close(g.end[1]);
	while (read(g.end[0], &byte, 1) < 0 && errno == EINTR)
		;
	close(g.end[0]);
}

__attribute__((unused)) static void child_open_gate(struct child_gate g)
{
	close(g.end[0]);
	close(g.end[1]);
}

/* A wait status in words, for diagnostics; the buffer is static. */
__attribute__((unused)) static const char *child_status(int status)
{
	static char buf[64];

	if (WIFEXITED(status))
		snprintf(buf, sizeof(buf), "exit status %d", WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		snprintf(buf, sizeof(buf), "killed by signal %d", WTERMSIG(status));
	else
		snprintf(buf, sizeof(buf), "wait status 0x%x", (unsigned int)status);
	return buf;
}

/* Seconds of CLOCK_MONOTONIC, by system call: the vDSO may be what is tested. */
__attribute__((unused)) static double child_now(void)
{
	struct timespec ts;

	syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

#endif /* TESTS_CHILD_H */
