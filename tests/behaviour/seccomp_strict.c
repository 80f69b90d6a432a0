/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * seccomp's strict mode: read, write, exit and sigreturn, and for whatever else SIGKILL,
 * which ends one thread.  And Linux knows of it, not libdune alone.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../seccomp.h"

#include <pthread.h>
#include <sys/time.h>

#define I386_EXIT	1
#define I386_GETPID	20

static long be_strict(void)
{
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
}

static long int80(long nr, long b)
{
	asm volatile("int $0x80" : "+a"(nr) : "b"(b) : "r8", "r9", "r10", "r11", "memory");
	return nr;
}

static void leave(int status)
{
	syscall(SYS_exit, status);
}

static int allowed(struct outcome *o)
{
	char buf[8] = "";
	int fds[2];

	if (pipe(fds))
		return 90;
	o->value[0] = be_strict();
	o->value[1] = write(fds[1], "strict", 6);
	o->value[2] = read(fds[0], buf, sizeof(buf));
	o->value[3] = memcmp(buf, "strict", 6);
	o->value[4] = write(-1, buf, 1) == -1 ? errno : 0;
	leave(7);
	return 91;
}

static int forbidden(struct outcome *o)
{
	o->value[0] = seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL) == -1 ? errno : 0;
	o->value[1] = seccomp(SECCOMP_SET_MODE_STRICT, 0, o) == -1 ? errno : 0;
	o->value[2] = prctl(PR_GET_SECCOMP);
	o->value[3] = seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL);
	o->value[4] = 1;
	getppid();
	o->value[5] = 1;
	return 91;
}

/* What does not go the way of plain calls in Dune mode. */
static int forbidden_special(struct outcome *o)
{
	o->value[0] = be_strict();
	prctl(PR_GET_SECCOMP);
	o->value[1] = 1;
	return 91;
}

static int forbidden_end(struct outcome *o)
{
	o->value[0] = be_strict();
	_exit(3);		/* exit_group */
}

static int no_call(struct outcome *o)
{
	o->value[0] = be_strict();
	syscall(100000);
	o->value[1] = 1;
	return 91;
}

static int of_32_bits(struct outcome *o)
{
	o->value[0] = be_strict();
	int80(I386_EXIT, 9);
	return 91;
}

static int forbidden_of_32_bits(struct outcome *o)
{
	o->value[0] = be_strict();
	int80(I386_GETPID, 0);
	o->value[1] = 1;
	return 91;
}

static int after_a_filter(struct outcome *o)
{
	o->value[0] = INSTALL(ON(SYS_getppid, SECCOMP_RET_ERRNO | 77), OTHERWISE(ALLOW));
	o->value[1] = be_strict() == -1 ? errno : 0;
	o->value[2] = seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL) == -1 ? errno : 0;
	o->value[3] = call_errno(SYS_getppid);
	o->value[4] = prctl(PR_GET_SECCOMP);
	return 3;
}

static struct outcome *signalled;

static void on_alarm(int sig)
{
	(void)sig;
	signalled->cpl |= (int)dune_test_cpl() << 8;
	signalled->value[1]++;
}

static int signals(struct outcome *o)
{
	struct itimerval soon = { .it_interval.tv_usec = 20000, .it_value.tv_usec = 20000 };

	signalled = o;
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &soon, NULL);
	o->value[0] = be_strict();
	while (o->value[1] < 3)
		;
	o->value[1] = 3;
	leave(8);
	return 91;
}

static int fault(struct outcome *o)
{
	o->value[0] = be_strict();
	asm volatile("movl $1, (%0)" : : "r"(8UL) : "memory");
	return 91;
}

static void *doomed(void *arg)
{
	struct outcome *o = arg;

	o->value[1] = be_strict();
	getppid();
	o->value[2] = 1;
	return NULL;
}

static int one_of_two(struct outcome *o)
{
	pthread_t t;

	if (pthread_create(&t, NULL, doomed, o) || pthread_join(t, NULL))
		return 90;
	o->value[3] = getppid() > 0;	/* this thread is not strict */
	o->value[4] = prctl(PR_GET_SECCOMP);
	return 4;
}

static const struct seccomp_case seccomp_cases[] = {
	{ "read, write, exit", allowed, false, false },
	{ "another call", forbidden, false, false },
	{ "prctl()", forbidden_special, false, false },
	{ "exit_group()", forbidden_end, false, false },
	{ "a call that there is not", no_call, false, false },
	{ "exit of 32 bits", of_32_bits, false, false },
	{ "another call of 32 bits", forbidden_of_32_bits, false, false },
	{ "not after a filter", after_a_filter, false, false },
	{ "signals and the return from them", signals, true, false },
	{ "a fault", fault, false, false },
	{ "one thread of two", one_of_two, false, false },
};

/* A line of /proc/@pid/status begins with @line. */
static bool status_has(pid_t pid, const char *line)
{
	char path[64], text[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(text, sizeof(text), f))
		found |= !strncmp(text, line, strlen(line));
	if (f)
		fclose(f);
	return found;
}

/* A filter of the same meaning: what gets past libdune does not get past Linux. */
static bool linux_knows(void)
{
	int to[2], from[2], status;
	bool known;
	char c = 0;
	pid_t pid;

	if (pipe(to) || pipe(from))
		return false;
	pid = fork();
	if (pid == 0) {
		c = be_strict() == 0;
		if (write(from[1], &c, 1) == 1 && read(to[0], &c, 1) == 1)
			leave(0);
		leave(1);
	}
	known = read(from[0], &c, 1) == 1 && c && status_has(pid, "Seccomp:\t2");
	return write(to[1], &c, 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0 && known;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + LENGTH(seccomp_cases) + 1 + DUNE_TEST_LEAVE);
	seccomp_prepare(LENGTH(seccomp_cases));
	dune_test_enter();
	seccomp_run();
	ktap_ok(linux_knows(), "Linux knows it as a filter");
	return dune_test_done();
}
