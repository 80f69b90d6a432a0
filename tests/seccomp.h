/* SPDX-License-Identifier: MIT */
/*
 * seccomp: cases that run in a native process and in one in Dune mode, and must find the
 * same.  A program defines seccomp_cases[] and calls seccomp_prepare(), enters Dune mode,
 * and calls seccomp_run().
 */
#ifndef TESTS_SECCOMP_H
#define TESTS_SECCOMP_H

#include "child.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* What a case found; the same natively and in Dune mode. */
struct outcome {
	volatile long value[12];
	volatile int cpl;
	volatile int listener;
	volatile int done;
};

static struct outcome *outcomes;	/* of all cases: native ones first */

/* ---- filters ------------------------------------------------------------ */

#define LOAD_NR		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))
#define ON(nr, verdict)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
			BPF_STMT(BPF_RET | BPF_K, verdict)
#define OTHERWISE(verdict) BPF_STMT(BPF_RET | BPF_K, verdict)
#define ALLOW		SECCOMP_RET_ALLOW
#define KILL		SECCOMP_RET_KILL_PROCESS
#define LENGTH(a)	(sizeof(a) / sizeof((a)[0]))

static long seccomp(unsigned int op, unsigned int flags, void *args)
{
	return syscall(SYS_seccomp, op, flags, args);
}

static long install_len(struct sock_filter *filter, size_t len, unsigned int flags)
{
	struct sock_fprog prog = { .len = (unsigned short)len, .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
}

#define INSTALL(...)							\
({									\
	struct sock_filter filter[] = { LOAD_NR, __VA_ARGS__ };		\
	install_len(filter, LENGTH(filter), 0);				\
})

static long call_errno(long nr)
{
	long ret = syscall(nr);

	return ret == -1 ? -errno : ret;
}

/* ---- cases ------------------------------------------------------------------ */

struct seccomp_case {
	const char *name;
	int (*fn)(struct outcome *o);
	bool handler;		/* it ran a signal handler, or a child, which told its CPL */
	bool supervised;
};

static const struct seccomp_case seccomp_cases[];
static unsigned int seccomp_nr;

/* A native process that decides for another: twice, a value and an error. */
static void supervise(struct outcome *o, pid_t pid)
{
	struct seccomp_notif req;
	struct seccomp_notif_resp resp;
	double end = child_now() + 60;
	long pidfd, fd;

	while (!o->listener && child_now() < end)
		usleep(1000);
	pidfd = syscall(SYS_pidfd_open, pid, 0);
	fd = syscall(SYS_pidfd_getfd, pidfd, o->listener - 1, 0);
	for (int i = 0; i < 2; i++) {
		memset(&req, 0, sizeof(req));
		memset(&resp, 0, sizeof(resp));
		if (ioctl((int)fd, SECCOMP_IOCTL_NOTIF_RECV, &req))
			_exit(92);
		if (i == 0)
			o->value[3] = req.pid == (unsigned int)pid && req.data.nr == SYS_getppid &&
				      req.data.arch == AUDIT_ARCH_X86_64 &&
				      req.data.args[0] == 11 && req.data.args[5] == 66;
		resp.id = req.id;
		resp.val = i ? 0 : 4242;
		resp.error = i ? -88 : 0;
		if (ioctl((int)fd, SECCOMP_IOCTL_NOTIF_SEND, &resp))
			_exit(93);
	}
}

/* ---- running them ----------------------------------------------------------- */

static int run_supervisor(void *arg)
{
	struct outcome *o = arg;

	while (!o->done)
		usleep(1000);
	supervise(o, o->done);
	return 0;
}

static void limits(void)
{
	struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
}

static int run_native(void *arg)
{
	struct outcome *o = arg;

	limits();
	o->cpl = (int)dune_test_cpl();
	return seccomp_cases[o - outcomes].fn(o);
}

/* In Dune mode already: forked from there. */
static int dune_status(unsigned int i, struct outcome *o)
{
	struct child c;

	c.pid = fork();
	if (c.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		limits();
		o->cpl = (int)dune_test_cpl();
		_exit(seccomp_cases[i].fn(o));
	}
	o->done = c.pid;
	return child_wait(&c);
}

static void check(unsigned int i, struct child *native, struct child *supervisors)
{
	struct outcome *n = &outcomes[i], *d = &outcomes[seccomp_nr + i];
	bool same = true, inside;
	int status[2];

	child_go(native);
	if (seccomp_cases[i].supervised) {
		child_go(&supervisors[0]);
		n->done = native->pid;
	}
	status[0] = child_wait(native);
	if (seccomp_cases[i].supervised) {
		child_wait(&supervisors[0]);
		child_go(&supervisors[1]);
	}
	status[1] = dune_status(i, d);
	if (seccomp_cases[i].supervised)
		child_wait(&supervisors[1]);

	for (unsigned int v = 0; v < LENGTH(n->value); v++) {
		if (n->value[v] == d->value[v])
			continue;
		ktap_note("value %u: natively %ld, in Dune mode %ld", v, n->value[v], d->value[v]);
		same = false;
	}
	if (status[0] != status[1]) {
		ktap_note("natively %s", child_status(status[0]));
		ktap_note("in Dune mode %s", child_status(status[1]));
		same = false;
	}
	inside = d->cpl == 0 && n->cpl == (seccomp_cases[i].handler ? 3 | 3 << 8 : 3);
	if (!inside)
		ktap_note("privilege levels 0x%x, 0x%x", n->cpl, d->cpl);
	ktap_ok(same && inside, "%s (%s)", seccomp_cases[i].name, child_status(status[1]));
}

static struct child natives[32], supervisors[32][2];

/* Before Dune mode: the native halves, which wait. */
static void seccomp_prepare(unsigned int nr)
{
	seccomp_nr = nr;
	outcomes = child_shared(2 * nr * sizeof(*outcomes));
	for (unsigned int i = 0; i < nr; i++) {
		natives[i] = child_start(run_native, &outcomes[i]);
		if (!seccomp_cases[i].supervised)
			continue;
		supervisors[i][0] = child_start(run_supervisor, &outcomes[i]);
		supervisors[i][1] = child_start(run_supervisor, &outcomes[nr + i]);
	}
}

static void seccomp_run(void)
{
	for (unsigned int i = 0; i < seccomp_nr; i++)
		check(i, &natives[i], supervisors[i]);
}

#endif /* TESTS_SECCOMP_H */
