/* SPDX-License-Identifier: MIT */
/*
 * Programs that know nothing of Dune and print what they find: natively and
 * under dune-run they must print the same.  Each case runs in a process of its
 * own, so that one that dies is one line and not the end.
 */
#ifndef TESTS_PLAIN_PROBE_H
#define TESTS_PLAIN_PROBE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_SECONDS	30

struct probe {
	const char *name;
	void (*run)(void);
};

static const char *probe_name;

/* One line by one write: children say things too. */
static void __attribute__((format(printf, 1, 2))) say(const char *fmt, ...)
{
	char line[512];
	va_list ap;
	int n = snprintf(line, sizeof(line), "%s: ", probe_name);

	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		_exit(99);
}

/* What the call returned, in the kernel's way. */
static inline long result(long ret)
{
	return ret < 0 ? -errno : ret;
}

static inline void handle(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
	struct sigaction act = { .sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags };

	sigaction(sig, &act, NULL);
}

static inline int status_of(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, __WALL) == pid ? status : -1;
}

static int probe_all(const struct probe *p)
{
	for (; p->name; p++) {
		pid_t pid;

		probe_name = p->name;
		pid = fork();
		if (!pid) {
			prctl(PR_SET_DUMPABLE, 0);	/* no core files */
			alarm(PROBE_SECONDS);
			p->run();
			_exit(0);
		}
		say("status %x", (unsigned int)status_of(pid));
	}
	return 0;
}

#endif
