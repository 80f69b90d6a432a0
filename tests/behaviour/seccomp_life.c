/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * seccomp: a process goes on under a filter that allows next to nothing, with signals,
 * exceptions, threads, forks and new memory; arguments, rights, user notification, and
 * filters from before Dune mode.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../seccomp.h"

#include <pthread.h>
#include <ucontext.h>

static volatile int thread_waits;

/* ---- cases: filters that allow next to nothing ---------------------------- */

static struct outcome *alarmed;
static volatile int alarms;

static void on_alarm(int sig)
{
	alarms += sig == SIGALRM;
	alarmed->cpl |= dune_test_cpl() << 8;
}

/* Signals, new memory and windows, with only what the program itself calls allowed. */
static int whitelist(struct outcome *o)
{
	size_t len = 64UL << 30;
	volatile char *far = mmap(NULL, len, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	alarmed = o;
	signal(SIGALRM, on_alarm);
	ualarm(20000, 20000);
	o->value[0] = INSTALL(ON(SYS_exit_group, ALLOW), ON(SYS_rt_sigreturn, ALLOW),
			      ON(SYS_getppid, ALLOW), OTHERWISE(KILL));
	for (size_t i = 0; i < len; i += 1UL << 30)
		far[i] = (char)i;
	do
		o->value[2] = getppid() > 0;
	while (alarms < 5);
	o->value[1] = 5;
	syscall(SYS_exit_group, 7);
	return 3;
}

static void on_fpe(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	alarmed->value[1] = sig;
	alarmed->value[2] = info->si_code;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static int whitelist_exception(struct outcome *o)
{
	struct sigaction act;
	int a = 1, d = 0;

	alarmed = o;
	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_fpe;
	act.sa_flags = SA_SIGINFO;
	sigaction(SIGFPE, &act, NULL);
	o->value[0] = INSTALL(ON(SYS_exit_group, ALLOW), ON(SYS_rt_sigreturn, ALLOW),
			      OTHERWISE(KILL));
	asm volatile("idivl %%ecx" : "+a"(a), "+d"(d) : "c"(0));	/* two bytes */
	syscall(SYS_exit_group, 8);
	return 3;
}

/* The thread ends with nothing allowed but its end. */
static void *last_words(void *arg)
{
	struct outcome *o = arg;

	o->value[1] = INSTALL(ON(SYS_exit, ALLOW), OTHERWISE(KILL));
	syscall(SYS_exit, 0);
	return NULL;
}

static int whitelist_thread(struct outcome *o)
{
	char path[64];
	pthread_t t;

	(void)path;
	for (int i = 0; i < 3; i++) {
		o->value[1] = -1;
		if (pthread_create(&t, NULL, last_words, o) || pthread_join(t, NULL))
			return 90;
	}
	o->value[2] = getppid() > 0;
	return 4;
}

static void *follower(void *arg)
{
	struct outcome *o = arg;

	thread_waits = 1;
	while (call_errno(SYS_getppid) != -77)
		;
	o->value[1] = 77;
	syscall(SYS_exit, 0);
	return NULL;
}

/* One thread installs for both. */
static int synchronised(struct outcome *o)
{
	struct sock_filter filter[] = {
		LOAD_NR, ON(SYS_getppid, SECCOMP_RET_ERRNO | 77), ON(SYS_exit, ALLOW),
		ON(SYS_exit_group, ALLOW), ON(SYS_futex, ALLOW), ON(SYS_munmap, ALLOW),
		ON(SYS_madvise, ALLOW), ON(SYS_clone3, ALLOW), ON(SYS_clone, ALLOW),
		ON(SYS_mmap, ALLOW), ON(SYS_mprotect, ALLOW), ON(SYS_rt_sigprocmask, ALLOW),
		ON(SYS_rseq, ALLOW), ON(SYS_set_robust_list, ALLOW), OTHERWISE(KILL),
	};
	pthread_t t, later;

	if (pthread_create(&t, NULL, follower, o))
		return 90;
	while (!thread_waits)
		;
	o->value[0] = install_len(filter, LENGTH(filter), SECCOMP_FILTER_FLAG_TSYNC);
	pthread_join(t, NULL);
	if (pthread_create(&later, NULL, follower, o))	/* born under the filter */
		return 91;
	pthread_join(later, NULL);
	syscall(SYS_exit_group, 9);
	return 3;
}

static int child_of_filter(struct outcome *o)
{
	int status = 0;
	pid_t pid;

	o->value[0] = INSTALL(ON(SYS_getppid, SECCOMP_RET_ERRNO | 77), OTHERWISE(ALLOW));
	o->value[1] = INSTALL(ON(SYS_getuid, SECCOMP_RET_ERRNO | 78), OTHERWISE(ALLOW));
	pid = fork();
	if (pid == 0) {
		o->value[2] = call_errno(SYS_getppid);
		o->value[3] = call_errno(SYS_getuid);
		o->value[4] = INSTALL(ON(SYS_getgid, SECCOMP_RET_ERRNO | 79), OTHERWISE(ALLOW));
		o->value[5] = call_errno(SYS_getgid);
		o->cpl |= dune_test_cpl() << 8;
		execl("/bin/sh", "sh", "-c", "exit 44", (char *)NULL);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	o->value[6] = status;
	return 10;
}

/* A fork and one of its child's: neither may open anything. */
static int fork_without_open(struct outcome *o)
{
	int status = 0;
	pid_t pid;

	o->value[0] = INSTALL(ON(SYS_openat, SECCOMP_RET_ERRNO | 77),
			      ON(SYS_open, SECCOMP_RET_ERRNO | 77), OTHERWISE(ALLOW));
	o->value[1] = call_errno(SYS_openat);
	pid = fork();
	if (pid == 0) {
		o->value[2] = call_errno(SYS_openat);
		pid = fork();
		if (pid == 0) {
			o->value[3] = call_errno(SYS_openat);
			o->cpl |= dune_test_cpl() << 8;
			_exit(45);
		}
		waitpid(pid, &status, 0);
		o->value[4] = status;
		_exit(46);
	}
	waitpid(pid, &status, 0);
	o->value[5] = status;
	return 11;
}

/* ---- cases: arguments ------------------------------------------------------ */

static int arguments(struct outcome *o)
{
	static struct sock_filter longest[BPF_MAXINSNS];
	struct sock_fprog *nowhere = (struct sock_fprog *)8;
	struct sock_fprog bad = { .len = 5, .filter = (struct sock_filter *)8 };

	for (size_t i = 0; i < LENGTH(longest); i++)
		longest[i] = (struct sock_filter)OTHERWISE(ALLOW);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	o->value[0] = seccomp(SECCOMP_SET_MODE_FILTER, 0, nowhere) ? errno : 0;
	o->value[1] = seccomp(SECCOMP_SET_MODE_FILTER, 0, &bad) ? errno : 0;
	o->value[2] = install_len(longest, 0, 0) ? errno : 0;
	o->value[3] = install_len(longest, 5000, 0) ? errno : 0;
	o->value[4] = install_len(longest, 10, 0x8000) ? errno : 0;
	longest[9] = (struct sock_filter)LOAD_NR;
	o->value[5] = install_len(longest, 10, 0) ? errno : 0;	/* does not end by a return */
	o->value[6] = prctl(PR_SET_SECCOMP, 77, &bad) ? errno : 0;
	o->value[7] = install_len(longest, BPF_MAXINSNS - 34, 0) ? errno : 0;
	o->value[8] = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nowhere) ? errno : 0;
	o->value[9] = prctl(PR_GET_SECCOMP);
	return 3;
}

static int without_rights(struct outcome *o)
{
	struct sock_filter filter[] = { OTHERWISE(ALLOW) };
	struct sock_fprog prog = { .len = 1, .filter = filter };

	o->value[0] = setresuid(1000, 1000, 1000);
	o->value[1] = prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) ? errno : 0;
	o->value[2] = install_len(filter, 1, 0);
	return 3;
}

/* ---- case: user notification ----------------------------------------------- */

static int notified(struct outcome *o)
{
	struct sock_filter filter[] = { LOAD_NR, ON(SYS_getppid, SECCOMP_RET_USER_NOTIF),
					OTHERWISE(ALLOW) };
	long fd = install_len(filter, LENGTH(filter), SECCOMP_FILTER_FLAG_NEW_LISTENER);

	o->value[0] = fd >= 0;
	o->listener = (int)fd + 1;
	o->value[1] = syscall(SYS_getppid, 11, 22, 33, 44, 55, 66);	/* the supervisor answers */
	o->value[2] = call_errno(SYS_getppid);
	return 11;
}

static const struct seccomp_case seccomp_cases[] = {
	{ "a filter without ioctl: signals, windows", whitelist, true, false },
	{ "a filter without ioctl: an exception", whitelist_exception, false, false },
	{ "a filter of a thread that only exits", whitelist_thread, false, false },
	{ "a filter for all threads, later ones included", synchronised, false, false },
	{ "filters one on the other, inherited by fork and exec", child_of_filter, true, false },
	{ "a fork where nothing may be opened", fork_without_open, true, false },
	{ "arguments", arguments, false, false },
	{ "rights", without_rights, false, false },
	{ "user notification", notified, false, true },
};

/* ---- filters from before ------------------------------------------------------ */

static int inherited_denied(void *arg)
{
	(void)arg;
	INSTALL(ON(SYS_ioctl, SECCOMP_RET_ERRNO | EACCES), OTHERWISE(ALLOW));
	if (dune_init_and_enter() != -EACCES || dune_test_cpl() != 3)
		return 1;
	return call_errno(SYS_getpid) == getpid() ? 12 : 2;
}

static int inherited_allowed(void *arg)
{
	(void)arg;
	INSTALL(ON(SYS_getppid, SECCOMP_RET_ERRNO | 78), OTHERWISE(ALLOW));
	dune_test_child_enter();
	return call_errno(SYS_getppid) == -78 && dune_test_cpl() == 0 ? 13 : 1;
}

int main(void)
{
	struct child denied, allowed;
	int status;

	ktap_plan(DUNE_TEST_ENTER + LENGTH(seccomp_cases) + 2 + DUNE_TEST_LEAVE);
	seccomp_prepare(LENGTH(seccomp_cases));
	denied = child_start(inherited_denied, NULL);
	allowed = child_start(inherited_allowed, NULL);
	dune_test_enter();
	seccomp_run();
	child_go(&denied);
	status = child_wait(&denied);
	ktap_eq(status, 12 << 8, "a filter from before that denies ioctl: no way in, and it is said");
	child_go(&allowed);
	status = child_wait(&allowed);
	ktap_eq(status, 13 << 8, "a filter from before that allows it applies inside");
	return dune_test_done();
}
