/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 slow-bochs=10 */
/*
 * Limits and attributes of a Dune process: each case runs natively and in Dune
 * mode, in a child, and must end with the same status, the expected one.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../cpus.h"

#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CHECK(cond)			\
do {					\
	if (!(cond))			\
		return __LINE__ % 250;	\
} while (0)

static bool limit(int what, rlim_t value)
{
	struct rlimit l = { value, value };

	return setrlimit(what, &l) == 0;
}

static int file_size(void *arg)
{
	int fd = memfd_create("limits", 0);
	static char buf[8192];

	if (arg)
		signal(SIGXFSZ, SIG_IGN);
	CHECK(limit(RLIMIT_FSIZE, 10000) && write(fd, buf, 8192) == 8192);
	CHECK(write(fd, buf, 8192) == 10000 - 8192);	/* what still fits */
	errno = 0;
	CHECK(write(fd, buf, 1) == -1 && errno == EFBIG);	/* or SIGXFSZ */
	CHECK(ftruncate(fd, 20000) == -1 && errno == EFBIG);
	return 0;
}

/* What the process has already counts, and differs in Dune mode: so room is left for it. */
static int address_space(void *arg)
{
	unsigned char *p;

	(void)arg;
	CHECK(limit(RLIMIT_AS, 512 * MIB));
	CHECK(mmap(NULL, GIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	CHECK(errno == ENOMEM);
	p = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED);
	mem_fill(p, MIB, 1);
	CHECK(mem_wrong(p, MIB, 1) == 0);
	CHECK(mremap(p, 64 * MIB, GIB, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
	CHECK(mem_wrong(p, MIB, 1) == 0 && malloc(GIB) == NULL);
	return 0;
}

static int data_size(void *arg)
{
	(void)arg;
	CHECK(limit(RLIMIT_DATA, 64 * MIB));
	CHECK(sbrk(128 * MIB) == (void *)-1 && errno == ENOMEM);
	CHECK(sbrk(MIB) != (void *)-1);
	return 0;
}

static int open_files(void *arg)
{
	int fd = -1, next;

	(void)arg;
	CHECK(limit(RLIMIT_NOFILE, 32));
	while ((next = dup(0)) >= 0)
		fd = next;
	CHECK(errno == EMFILE && fd == 31);
	CHECK(open("/dev/null", O_RDONLY) == -1 && errno == EMFILE);
	CHECK(dup2(0, 32) == -1 && errno == EBADF);
	CHECK(close(fd) == 0 && open("/dev/null", O_RDONLY) == fd);
	return 0;
}

static int cpu_time(void *arg)
{
	struct rlimit l = { 1, 60 };

	(void)arg;
	CHECK(setrlimit(RLIMIT_CPU, &l) == 0);
	for (volatile unsigned long i = 0; ; i++)	/* in guest mode, without a call */
		;
	return 1;
}

static int prlimits(void *arg)
{
	struct rlimit new = { 100, 200 }, old, now;

	(void)arg;
	CHECK(syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &new, &old) == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 100 && now.rlim_max == 200);
	new.rlim_cur = 300;
	CHECK(setrlimit(RLIMIT_NOFILE, &new) == -1 && errno == EINVAL);
	CHECK(syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, &old) == 0);
	CHECK(old.rlim_cur > 200);
	return 0;
}

static int names(void *arg)
{
	char name[17] = "", line[32] = "";
	int fd;

	(void)arg;
	CHECK(prctl(PR_SET_NAME, "a-new-name-that-is-long") == 0);
	CHECK(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a-new-name-that"));
	fd = open("/proc/self/comm", O_RDONLY);
	CHECK(read(fd, line, sizeof(line)) == 16 && !strncmp(line, name, 15));
	CHECK(pthread_setname_np(pthread_self(), "by-libc") == 0);
	CHECK(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "by-libc"));
	CHECK(prctl(PR_SET_DUMPABLE, 0) == 0 && prctl(PR_GET_DUMPABLE) == 0);
	CHECK(prctl(PR_SET_TIMERSLACK, 12345) == 0 && prctl(PR_GET_TIMERSLACK) == 12345);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	CHECK(prctl(9999) == -1 && errno == EINVAL);
	return 0;
}

static int affinity(void *arg)
{
	(void)arg;
	for (int round = 0; round < 20; round++)
		for (int i = 0; i < cpus_count(); i++) {
			unsigned int cpu = 999, node = 999;
			cpu_set_t set;

			CHECK(cpus_pin(0, i) == 0);
			CHECK(syscall(SYS_getcpu, &cpu, &node, NULL) == 0);
			CHECK((int)cpu == cpus_number(i) && node == 0);
			CHECK(sched_getaffinity(0, sizeof(set), &set) == 0);
			CHECK(CPU_COUNT(&set) == 1 && CPU_ISSET(cpu, &set));
		}
	return 0;
}

static int scheduling(void *arg)
{
	struct sched_param p = { .sched_priority = 5 };

	(void)arg;
	CHECK(nice(3) == 3 && getpriority(PRIO_PROCESS, 0) == 3);
	CHECK(sched_setscheduler(0, SCHED_FIFO, &p) == 0);
	CHECK(sched_getscheduler(0) == SCHED_FIFO && sched_getparam(0, &p) == 0);
	CHECK(p.sched_priority == 5 && sched_yield() == 0);
	p.sched_priority = 0;
	CHECK(sched_setscheduler(0, SCHED_BATCH, &p) == 0 && sched_getscheduler(0) == SCHED_BATCH);
	return 0;
}

static int child_of_child(int how)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (how == 1)
			kill(getpid(), SIGTERM);
		_exit(7);
	}
	return pid;
}

/* It ends once the gate is open: of a child that has ended, nobody is told that it went on. */
static int child_that_stops(struct child_gate gate)
{
	pid_t pid = fork();

	if (pid == 0) {
		raise(SIGSTOP);
		child_at_gate(gate);
		_exit(7);
	}
	return pid;
}

static int waits(void *arg)
{
	siginfo_t info;
	struct child_gate gate = child_gate();
	struct rusage usage;
	pid_t pid;
	int status;

	(void)arg;
	pid = child_of_child(0);
	CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
	CHECK(info.si_pid == pid && info.si_code == CLD_EXITED && info.si_status == 7);
	CHECK(wait4(pid, &status, 0, &usage) == pid && WEXITSTATUS(status) == 7);
	pid = child_of_child(1);
	CHECK(waitid(P_ALL, 0, &info, WEXITED) == 0);
	CHECK(info.si_pid == pid && info.si_code == CLD_KILLED && info.si_status == SIGTERM);
	pid = child_that_stops(gate);
	CHECK(waitid(P_PID, (id_t)pid, &info, WSTOPPED) == 0);
	CHECK(info.si_code == CLD_STOPPED && info.si_status == SIGSTOP);
	CHECK(kill(pid, SIGCONT) == 0 && waitid(P_PID, (id_t)pid, &info, WCONTINUED) == 0);
	child_open_gate(gate);
	CHECK(info.si_code == CLD_CONTINUED && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK(waitid(P_ALL, 0, &info, WEXITED) == -1 && errno == ECHILD);
	CHECK(waitpid(-1, &status, WNOHANG) == -1 && errno == ECHILD);
	pid = child_of_child(0);
	status = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(status >= 0 && waitid((idtype_t)3 /* P_PIDFD */, (id_t)status, &info, WEXITED) == 0);
	CHECK(info.si_pid == pid);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(void *);
	void *arg;
	int want;		/* wait status; 0 for a case that checks itself */
} cases[] = {
	{ "RLIMIT_FSIZE, SIGXFSZ ignored", file_size, "", 0 },
	{ "RLIMIT_FSIZE, SIGXFSZ as it comes", file_size, NULL, SIGXFSZ },
	{ "RLIMIT_AS", address_space, NULL, 0 },
	{ "RLIMIT_DATA", data_size, NULL, 0 },
	{ "RLIMIT_NOFILE", open_files, NULL, 0 },
	{ "RLIMIT_CPU, spinning in guest mode", cpu_time, NULL, SIGXCPU },
	{ "prlimit", prlimits, NULL, 0 },
	{ "prctl: names and others", names, NULL, 0 },
	{ "affinity and getcpu", affinity, NULL, 0 },
	{ "scheduling policies", scheduling, NULL, 0 },
	{ "waitid, wait4, waitpid", waits, NULL, 0 },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct rlimit no_core = { 0, 0 };
	struct child native[CASES];

	ktap_plan(DUNE_TEST_ENTER + 2 * CASES + DUNE_TEST_LEAVE);
	setrlimit(RLIMIT_CORE, &no_core);
	cpus_count();
	for (size_t i = 0; i < CASES; i++)
		native[i] = child_start(cases[i].fn, cases[i].arg);
	dune_set_pool(false, 0);	/* its 4 GiB would count for RLIMIT_AS */
	dune_test_enter();
	for (size_t i = 0; i < CASES; i++) {
		int status;

		child_go(&native[i]);
		status = child_wait(&native[i]);
		ktap_ok(status == cases[i].want, "%s, natively: %s", cases[i].name,
			child_status(status));
		status = mem_child(cases[i].fn, cases[i].arg);
		ktap_ok(status == cases[i].want, "%s, in Dune mode: %s", cases[i].name,
			child_status(status));
	}
	return dune_test_done();
}
