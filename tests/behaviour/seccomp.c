/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * seccomp: what a filter says about a call is what a Dune process gets.  Each case
 * runs in a native process and in one in Dune mode, and both report the same.  Most
 * filters here would forbid the host side its work between two calls.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <ucontext.h>

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

static volatile int thread_waits;

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

/* ---- cases: filters that allow next to nothing ---------------------------- */

static struct outcome *alarmed;

static void on_alarm(int sig)
{
	alarmed->value[1] += sig == SIGALRM;
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
	while (o->value[1] < 5)
		o->value[2] = getppid() > 0;
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

static const struct {
	const char *name;
	int (*fn)(struct outcome *o);
	bool handler;		/* it ran a signal handler, or a child, which told its CPL */
	bool supervised;
} cases[] = {
	{ "errno", on_errno, false, false },
	{ "kill the process", kill_process, false, false },
	{ "kill the thread, the only one", kill_only_thread, false, false },
	{ "kill the thread, one of two", kill_one_of_two, false, false },
	{ "trap", trap, true, false },
	{ "trap of calls that are no plain forwards", trap_special, true, false },
	{ "trap without a handler", trap_unhandled, false, false },
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

#define CASES	LENGTH(cases)

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
	return cases[o - outcomes].fn(o);
}

static int run_supervisor(void *arg)
{
	struct outcome *o = arg;

	while (!o->done)
		usleep(1000);
	supervise(o, o->done);
	return 0;
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
		_exit(cases[i].fn(o));
	}
	o->done = c.pid;
	return child_wait(&c);
}

static void check(unsigned int i, struct child *native, struct child *supervisors)
{
	struct outcome *n = &outcomes[i], *d = &outcomes[CASES + i];
	bool same = true, inside;
	int status[2];

	child_go(native);
	if (cases[i].supervised) {
		child_go(&supervisors[0]);
		n->done = native->pid;
	}
	status[0] = child_wait(native);
	if (cases[i].supervised) {
		child_wait(&supervisors[0]);
		child_go(&supervisors[1]);
	}
	status[1] = dune_status(i, d);
	if (cases[i].supervised)
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
	inside = d->cpl == 0 && n->cpl == (cases[i].handler ? 3 | 3 << 8 : 3);
	if (!inside)
		ktap_note("privilege levels 0x%x, 0x%x", n->cpl, d->cpl);
	ktap_ok(same && inside, "%s (%s)", cases[i].name, child_status(status[1]));
}

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

/* No filter, no place for the host side's calls. */
static bool strict_refused(void)
{
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 && errno == EINVAL &&
	       seccomp(SECCOMP_SET_MODE_STRICT, 0, NULL) == -1 && errno == EINVAL &&
	       prctl(PR_GET_SECCOMP) == 0;
}

int main(void)
{
	struct child native[CASES], supervisors[2], denied, allowed;
	int status;

	ktap_plan(DUNE_TEST_ENTER + CASES + 3 + DUNE_TEST_LEAVE);
	outcomes = child_shared(2 * CASES * sizeof(*outcomes));
	for (unsigned int i = 0; i < CASES; i++)
		native[i] = child_start(run_native, &outcomes[i]);
	supervisors[0] = child_start(run_supervisor, &outcomes[CASES - 1]);
	supervisors[1] = child_start(run_supervisor, &outcomes[2 * CASES - 1]);
	denied = child_start(inherited_denied, NULL);
	allowed = child_start(inherited_allowed, NULL);
	dune_test_enter();

	for (unsigned int i = 0; i < CASES; i++)
		check(i, &native[i], supervisors);
	child_go(&denied);
	status = child_wait(&denied);
	ktap_eq(status, 12 << 8, "a filter from before that denies ioctl: no way in, and it is said");
	child_go(&allowed);
	status = child_wait(&allowed);
	ktap_eq(status, 13 << 8, "a filter from before that allows it applies inside");
	ktap_ok(strict_refused(), "strict mode is refused");
	return dune_test_done();
}
