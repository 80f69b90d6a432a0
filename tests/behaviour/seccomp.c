/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * seccomp: what a filter says about a call is what a Dune process gets: errors, signals
 * and ends.  Most filters here would forbid the host side its work between two calls.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../seccomp.h"

#include <pthread.h>
#include <ucontext.h>

/* ---- cases: verdicts ------------------------------------------------------ */

static int on_errno(struct outcome *o)
{
	o->value[0] = INSTALL(ON(SYS_getppid, SECCOMP_RET_ERRNO | 77),
			      ON(SYS_rt_sigaction, SECCOMP_RET_ERRNO | 78),
			      ON(SYS_rt_sigprocmask, SECCOMP_RET_ERRNO | 79),
			      ON(SYS_close, SECCOMP_RET_ERRNO | 80),
			      ON(SYS_sigaltstack, SECCOMP_RET_ERRNO | 81),
			      ON(SYS_clone, SECCOMP_RET_ERRNO | 82),
			      ON(SYS_prctl, SECCOMP_RET_ERRNO | 83), OTHERWISE(ALLOW));
	o->value[1] = call_errno(SYS_getppid);
	o->value[2] = call_errno(SYS_rt_sigaction);
	o->value[3] = call_errno(SYS_rt_sigprocmask);
	o->value[4] = call_errno(SYS_close);
	o->value[5] = call_errno(SYS_sigaltstack);
	o->value[6] = call_errno(SYS_clone);
	o->value[7] = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) ? errno : 0;
	o->value[8] = call_errno(SYS_getpid) == getpid();
	return 3;
}

static int kill_process(struct outcome *o)
{
	INSTALL(ON(SYS_getppid, SECCOMP_RET_KILL_PROCESS), OTHERWISE(ALLOW));
	o->value[0] = 1;
	getppid();
	o->value[1] = 1;
	return 3;
}

static int kill_only_thread(struct outcome *o)
{
	INSTALL(ON(SYS_getppid, SECCOMP_RET_KILL_THREAD), OTHERWISE(ALLOW));
	o->value[0] = 1;
	getppid();
	o->value[1] = 1;
	return 3;
}

static void *doomed(void *arg)
{
	struct outcome *o = arg;

	INSTALL(ON(SYS_getppid, SECCOMP_RET_KILL_THREAD), OTHERWISE(ALLOW));
	o->value[0] = gettid();
	getppid();
	o->value[1] = 1;
	return NULL;
}

static int kill_one_of_two(struct outcome *o)
{
	char path[64];
	pthread_t t;

	if (pthread_create(&t, NULL, doomed, o))
		return 90;
	while (!o->value[0])
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%ld", o->value[0]);
	while (access(path, F_OK) == 0)
		usleep(1000);
	o->value[0] = 1;
	o->value[2] = getppid() > 0;	/* this thread has no filter */
	return 4;
}

/* getppid() with the address behind it. */
static long known_getppid(unsigned long *behind)
{
	unsigned long at;
	long ret;

	asm volatile("leaq 1f(%%rip), %1\n\tsyscall\n1:"
		     : "=a"(ret), "=&r"(at) : "0"(SYS_getppid) : "rcx", "r11", "memory");
	*behind = at;
	return ret;
}

static struct outcome *trapped;
static unsigned long trap_addr, trap_rip;

static void on_sigsys(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	trapped->value[1] = sig;
	trapped->value[2] = info->si_code;
	trapped->value[3] = info->si_errno;
	trapped->value[4] = info->si_syscall;
	trapped->value[5] = info->si_arch == AUDIT_ARCH_X86_64;
	trapped->value[6] = uc->uc_mcontext.gregs[REG_RAX];
	trap_addr = (unsigned long)info->si_call_addr;
	trap_rip = (unsigned long)uc->uc_mcontext.gregs[REG_RIP];
	uc->uc_mcontext.gregs[REG_RAX] = -123 - info->si_syscall;
	trapped->cpl |= dune_test_cpl() << 8;
}

static void handle_sigsys(struct outcome *o)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_sigsys;
	act.sa_flags = SA_SIGINFO;
	sigaction(SIGSYS, &act, NULL);
	trapped = o;
}

static int trap(struct outcome *o)
{
	unsigned long behind;

	handle_sigsys(o);
	o->value[0] = INSTALL(ON(SYS_getppid, SECCOMP_RET_TRAP | 55), OTHERWISE(ALLOW));
	o->value[7] = known_getppid(&behind);
	o->value[8] = trap_addr == behind;
	o->value[9] = trap_rip == behind;
	return 5;
}

/* Calls that are more than a forward. */
static int trap_special(struct outcome *o)
{
	int status = 0;
	pid_t pid;

	handle_sigsys(o);
	o->value[0] = INSTALL(ON(SYS_rt_sigaction, SECCOMP_RET_TRAP | 1),
			      ON(SYS_vfork, SECCOMP_RET_TRAP | 2),
			      ON(SYS_fork, SECCOMP_RET_TRAP | 3),
			      ON(SYS_arch_prctl, SECCOMP_RET_TRAP | 4), OTHERWISE(ALLOW));
	for (int i = 0; i < 20; i++) {
		o->value[7] = call_errno(SYS_rt_sigaction);
		o->value[8] = call_errno(SYS_fork);
		o->value[9] = call_errno(SYS_arch_prctl);
	}
	o->value[10] = trap_addr == trap_rip;
	pid = fork();
	if (pid == 0)
		_exit(66);
	waitpid(pid, &status, 0);
	o->value[11] = status;
	return 6;
}

static int trap_unhandled(struct outcome *o)
{
	INSTALL(ON(SYS_getppid, SECCOMP_RET_TRAP), OTHERWISE(ALLOW));
	o->value[0] = 1;
	getppid();
	return 3;
}

static const struct seccomp_case seccomp_cases[] = {
	{ "errno", on_errno, false, false },
	{ "kill the process", kill_process, false, false },
	{ "kill the thread, the only one", kill_only_thread, false, false },
	{ "kill the thread, one of two", kill_one_of_two, false, false },
	{ "trap", trap, true, false },
	{ "trap of calls that are no plain forwards", trap_special, true, false },
	{ "trap without a handler", trap_unhandled, false, false },
};

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + LENGTH(seccomp_cases) + DUNE_TEST_LEAVE);
	seccomp_prepare(LENGTH(seccomp_cases));
	dune_test_enter();
	seccomp_run();
	return dune_test_done();
}
