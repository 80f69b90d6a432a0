/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * System calls that the module makes itself.  They do not leave DUNE_RUN, and
 * apart from that nobody can tell: results and errors are those of the general
 * path, signals interrupt and restart them, and who watches a thread's calls
 * (seccomp, ptrace) sees them all, also those made after the watching began.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>

#define CALLS		1000
#define RESULTS		128
#define FILTER_ERRNO	77

static struct {
	volatile long result[2][RESULTS];
	volatile unsigned int results[2];
	volatile uint64_t hypercalls[2], runs[2];
} *shared;

/* ---- the same either way -------------------------------------------------- */

static unsigned int path;	/* 0 general, 1 fast */

static void note(long value)
{
	unsigned int i = shared->results[path];

	if (i < RESULTS) {
		shared->result[path][i] = value;
		shared->results[path] = i + 1;
	}
}

/* The result of a call as the kernel gives it. */
static long call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 asm("r10") = d;
	register long r8 asm("r8") = e;
	register long r9 asm("r9") = f;
	long ret;

	asm volatile("syscall" : "=a"(ret)
		     : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return ret;
}

#define CALL(nr, ...)	CALL_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(nr, a, b, c, d, e, f, ...)				\
	call((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static void files(void)
{
	static char text[] = "0123456789abcdef";
	char buf[32] = "";
	struct iovec iov[2] = { { text, 4 }, { text + 8, 4 } };
	struct stat st;
	int fd = memfd_create("fast", 0);

	note(CALL(SYS_write, fd, text, 16));
	note(CALL(SYS_lseek, fd, 4, SEEK_SET));
	note(CALL(SYS_read, fd, buf, sizeof(buf)));
	note(memcmp(buf, text + 4, 12));
	note(CALL(SYS_pwrite64, fd, text, 3, 100));
	note(CALL(SYS_pread64, fd, buf, 8, 98));
	note(memcmp(buf, "\0\000012", 5));
	note(CALL(SYS_writev, fd, iov, 2));
	note(CALL(SYS_lseek, fd, 0, SEEK_SET));
	note(CALL(SYS_readv, fd, iov, 2));
	note(CALL(SYS_fstat, fd, &st));
	note(st.st_size);
	note(CALL(SYS_newfstatat, AT_FDCWD, "/proc/self/exe", &st, 0));
	note(CALL(SYS_newfstatat, AT_FDCWD, "/there/is/no/such", &st, 0));
	note(CALL(SYS_fcntl, fd, F_GETFL));
	note(CALL(SYS_read, -1, buf, 1));
	note(CALL(SYS_read, fd, 8, 4096));
	note(CALL(SYS_write, fd, 0xffff888000000000, 8));
	note(CALL(SYS_lseek, fd, -1, SEEK_SET));
	close(fd);
}

static void names(void)
{
	struct open_how how = { .flags = O_RDONLY, .resolve = RESOLVE_NO_SYMLINKS };
	static const char none[] = "/there/is/no/such", null[] = "/dev/null";
	static const char self[] = "/proc/self/exe";
	char buf[4096];
	struct statx stx;
	struct stat st;
	int fd[4];

	fd[0] = (int)CALL(SYS_open, null, O_RDWR);
	fd[1] = (int)CALL(SYS_openat, AT_FDCWD, "/proc/self", O_DIRECTORY);
	fd[2] = (int)CALL(SYS_openat2, AT_FDCWD, null, &how, sizeof(how));
	fd[3] = (int)CALL(SYS_openat2, AT_FDCWD, self, &how, sizeof(how));
	note(fd[0] >= 0);
	note(fd[1] >= 0);
	note(fd[2] >= 0);
	note(fd[3]);
	note(CALL(SYS_getdents64, fd[1], buf, sizeof(buf)) > 0);
	note(CALL(SYS_readlinkat, fd[1], "exe", buf, sizeof(buf)) > 0 && *buf == '/');
	note(CALL(SYS_newfstatat, fd[1], "stat", &st, 0));
	note(CALL(SYS_faccessat, fd[1], "stat", R_OK));
	for (unsigned int i = 0; i < 3; i++)
		close(fd[i]);
	note(CALL(SYS_open, none, O_RDONLY));
	note(CALL(SYS_open, null, O_RDONLY | O_DIRECTORY));
	note(CALL(SYS_openat, AT_FDCWD, 0xffff888000000000, O_RDONLY));
	note(CALL(SYS_openat2, AT_FDCWD, null, &how, 1));
	note(CALL(SYS_stat, null, &st));
	note(S_ISCHR(st.st_mode));
	note(CALL(SYS_lstat, self, &st));
	note(S_ISLNK(st.st_mode));
	note(CALL(SYS_stat, none, &st));
	note(CALL(SYS_statx, AT_FDCWD, null, 0, STATX_BASIC_STATS, &stx));
	note(CALL(SYS_access, null, R_OK | W_OK));
	note(CALL(SYS_access, none, F_OK));
	note(CALL(SYS_readlink, null, buf, sizeof(buf)));
	note(CALL(SYS_getdents64, -1, buf, sizeof(buf)));
}

static void sockets(void)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = 4711 }, got;
	int s[2], file = memfd_create("fast", 0), ep = epoll_create1(0), value = 0;
	char in[16] = "", text[] = "0123456789abcdef";
	struct iovec out = { text, 5 }, back = { in, sizeof(in) };
	struct msghdr to = { .msg_iov = &out, .msg_iovlen = 1 };
	struct msghdr from = { .msg_iov = &back, .msg_iovlen = 1 };
	socklen_t len = sizeof(value);

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, s) || write(file, text, 16) != 16)
		return;
	note(CALL(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, s[1], &event));
	note(CALL(SYS_epoll_wait, ep, &got, 1, 0));
	note(CALL(SYS_sendto, s[0], text, 4, 0, 0, 0));
	note(CALL(SYS_epoll_wait, ep, &got, 1, -1));
	note((long)got.data.u64);
	note(CALL(SYS_recvfrom, s[1], in, sizeof(in), 0, 0, 0));
	note(memcmp(in, "0123", 4));
	note(CALL(SYS_recvfrom, s[1], in, 1, MSG_DONTWAIT, 0, 0));
	note(CALL(SYS_sendmsg, s[0], &to, 0));
	note(CALL(SYS_recvmsg, s[1], &from, 0));
	note(CALL(SYS_sendfile, s[0], file, 0, 16));	/* from its end */
	lseek(file, 8, SEEK_SET);
	note(CALL(SYS_sendfile, s[0], file, 0, 16));
	note(CALL(SYS_recvfrom, s[1], in, sizeof(in), 0, 0, 0));
	note(memcmp(in, "89abcdef", 8));
	note(CALL(SYS_getsockopt, s[0], SOL_SOCKET, SO_TYPE, &value, &len));
	note(value);
	note(CALL(SYS_setsockopt, s[0], SOL_SOCKET, SO_PASSCRED, &value, sizeof(value)));
	note(CALL(SYS_setsockopt, s[0], SOL_SOCKET, 12345, &value, sizeof(value)));
	note(CALL(SYS_accept, s[0], 0, 0));
	note(CALL(SYS_accept4, file, 0, 0, 0));
	note(CALL(SYS_epoll_wait, file, &got, 1, 0));
	note(CALL(SYS_sendmsg, s[0], 8, 0));
	close(s[0]);
	close(s[1]);
	close(file);
	close(ep);
}

static void memory(void)
{
	unsigned char *p = (void *)CALL(SYS_mmap, 0, 16384, PROT_READ | PROT_WRITE,
					MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char *brk = (void *)CALL(SYS_brk, 0);

	p[0] = 1;
	p[8192] = 2;
	note(CALL(SYS_madvise, p, 4096, MADV_DONTNEED));
	note(p[0] + p[8192]);
	note(CALL(SYS_mprotect, p, 4096, PROT_READ));
	note(CALL(SYS_read, 0, p, 0));
	note(CALL(SYS_munmap, p, 16384));
	note(CALL(SYS_munmap, p + 1, 1));
	note(CALL(SYS_mmap, 0, 0, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	note(CALL(SYS_brk, brk + 65536) == (long)brk + 65536);
	brk[65535] = 3;
	note(CALL(SYS_brk, brk) == (long)brk);
}

static void others(void)
{
	struct timespec ts = { 0, 0 };
	struct timeval tv = { 0, 0 };
	uint32_t word = 0;

	note(CALL(SYS_getpid) == getpid());
	note(CALL(SYS_gettid) == getpid());
	note(CALL(SYS_getppid) == getppid());
	note(CALL(SYS_getuid) + CALL(SYS_geteuid) + CALL(SYS_getgid) + CALL(SYS_getegid));
	note(CALL(SYS_clock_gettime, CLOCK_MONOTONIC, &ts));
	note(ts.tv_sec > 0);
	note(CALL(SYS_clock_gettime, 12345, &ts));
	note(CALL(SYS_gettimeofday, &tv, 0));
	note(CALL(SYS_sched_yield));
	note(CALL(SYS_getrandom, &ts, 16, 0));
	note(CALL(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1));
	note(CALL(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 1, 0));
	ts = (struct timespec){ 0, 1000000 };
	note(CALL(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts));
	/* x32's getpid, and numbers that nobody has. */
	note(CALL(0x40000027));
	note(CALL(511));
	note(CALL(512));
	note(CALL(-1));
	note(CALL(1L << 32 | SYS_getpid) == getpid());
}

static int battery(void *arg)
{
	struct dune_stats before, after;
	struct stat st;

	path = arg != NULL;
	dune_set_fast_calls(path);
	dune_test_child_enter();
	files();
	names();
	sockets();
	memory();
	others();
	before = dune_test_stats();
	for (int i = 0; i < CALLS / 4; i++) {
		CALL(SYS_getpid);
		CALL(SYS_stat, "/dev/null", &st);
		CALL(SYS_recvfrom, -1, &st, 1, 0, 0, 0);
		CALL(SYS_epoll_wait, -1, &st, 1, 0);
	}
	after = dune_test_stats();
	shared->hypercalls[path] = after.exit[DUNE_STAT_HYPERCALL].count -
				   before.exit[DUNE_STAT_HYPERCALL].count;
	shared->runs[path] = after.runs - before.runs;
	return 0;
}

static void same_results(struct child *general, struct child *fast)
{
	unsigned int differ = 0;

	child_go(general);
	ktap_eq(child_wait(general), 0, "a process with the general path alone");
	child_go(fast);
	ktap_eq(child_wait(fast), 0, "a process with fast calls");
	for (unsigned int i = 0; i < shared->results[1]; i++) {
		if (shared->result[0][i] == shared->result[1][i])
			continue;
		ktap_note("result %u: %ld by the general path, %ld by the fast one", i,
			  shared->result[0][i], shared->result[1][i]);
		differ++;
	}
	ktap_ok(differ == 0 && shared->results[1] == shared->results[0] &&
		shared->results[1] >= 90 && shared->results[1] < RESULTS,
		"%u results are the same", shared->results[1]);
	ktap_ok(shared->hypercalls[0] == CALLS && shared->hypercalls[1] == CALLS,
		"each call is one exit either way");
	ktap_ok(shared->runs[0] >= CALLS, "one DUNE_RUN a call by the general path (%llu)",
		(unsigned long long)shared->runs[0]);
	ktap_ok(shared->runs[1] < CALLS / 10, "hardly any by the fast one (%llu)",
		(unsigned long long)shared->runs[1]);
}

/* ---- signals ----------------------------------------------------------------- */

static volatile int feed = -1, alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
	if (feed >= 0 && alarms == 1 && write(feed, "x", 1) != 1)
		alarms += 1000;
}

/*
 * @nr reads what is empty, and alarms come from 50 ms on: the first may come before it.  A
 * restarted one is fed by the handler.
 */
static long interrupted(long nr, int flags)
{
	static const struct itimerval soon = { { 0, 50000 }, { 0, 50000 } }, never;
	struct epoll_event event = { .events = EPOLLIN };
	struct sigaction act;
	int end[2], ep = epoll_create1(0);
	char byte[sizeof(event)];
	long ret;

	memset(&act, 0, sizeof(act));
	act.sa_handler = on_alarm;
	act.sa_flags = flags;
	sigaction(SIGALRM, &act, NULL);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, end) ||
	    epoll_ctl(ep, EPOLL_CTL_ADD, end[0], &event))
		return -1000;
	alarms = 0;
	feed = flags & SA_RESTART ? end[1] : -1;
	setitimer(ITIMER_REAL, &soon, NULL);
	if (nr == SYS_epoll_wait)
		ret = CALL(nr, ep, byte, 1, -1);
	else
		ret = CALL(nr, end[0], byte, 1);
	setitimer(ITIMER_REAL, &never, NULL);
	close(ep);
	close(end[0]);
	close(end[1]);
	return ret;
}

static void signals(void)
{
	static const struct {
		const char *name;
		long nr, restarted;
	} calls[] = {
		{ "read", SYS_read, 1 },
		{ "recvfrom", SYS_recvfrom, 1 },
		{ "epoll_wait", SYS_epoll_wait, -EINTR },	/* signal(7) */
	};
	uint64_t runs = dune_test_stats().runs;
	long ret;

	for (unsigned int i = 0; i < 3; i++) {
		ret = interrupted(calls[i].nr, 0);
		ktap_ok(ret == -EINTR && alarms >= 1 && alarms < 1000,
			"a handler interrupts %s (%ld, %d)", calls[i].name, ret, alarms);
		ret = interrupted(calls[i].nr, SA_RESTART);
		ktap_ok(ret == calls[i].restarted && alarms >= 1 && alarms < 1000,
			"one with SA_RESTART, as it should be (%ld, %d)", ret, alarms);
	}
	signal(SIGPIPE, SIG_IGN);

	int end[2];

	if (pipe(end))
		ktap_bail("pipe: %s", strerror(errno));
	close(end[0]);
	ktap_eq(CALL(SYS_write, end[1], "x", 1), -EPIPE, "a write to a pipe without reader");
	close(end[1]);
	ktap_ok(dune_test_stats().runs > runs, "signals end DUNE_RUN");
}

/* ---- who watches ------------------------------------------------------------- */

#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))

/* getpid fails with FILTER_ERRNO, all else is allowed. */
static long install_filter(unsigned int flags)
{
	struct sock_filter code[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | FILTER_ERRNO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(code) / sizeof(code[0]), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return CALL(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static bool fast_getpid_works(void)
{
	uint64_t runs = dune_test_stats().runs;
	bool same = true;

	for (int i = 0; i < CALLS; i++)
		same &= CALL(SYS_getpid) > 0;
	return same && dune_test_stats().runs - runs < CALLS / 10;
}

static int filter_itself(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	if (!fast_getpid_works())
		return 1;
	if (install_filter(0))
		return 2;
	if (CALL(SYS_getpid) != -FILTER_ERRNO)
		return 3;
	return CALL(SYS_gettid) > 0 ? 0 : 4;
}

static volatile int inside;

static void *filterer(void *arg)
{
	(void)arg;
	while (!inside)
		usleep(1000);
	return (void *)install_filter(SECCOMP_FILTER_FLAG_TSYNC);
}

/* Another thread's filter reaches this one in the middle of its calls. */
static int filter_from_outside(void *arg)
{
	double end;
	pthread_t thread;
	void *ret;

	(void)arg;
	if (pthread_create(&thread, NULL, filterer, NULL))
		return 1;
	dune_test_child_enter();
	if (!fast_getpid_works())
		return 2;
	inside = 1;
	end = child_now() + 20;
	while (CALL(SYS_getpid) != -FILTER_ERRNO)
		if (child_now() > end)
			return 3;
	pthread_join(thread, &ret);
	return ret ? 4 : 0;
}

static int traced(void *arg)
{
	(void)arg;
	dune_test_child_enter();
	if (!fast_getpid_works())
		return 1;
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 2;
	raise(SIGSTOP);
	for (int i = 0; i < 10; i++)
		if (CALL(SYS_getppid) <= 0)
			return 3;
	return 0;
}

/* How many times the tracee enters or leaves getppid; its wait status in @status. */
static unsigned int trace(struct child *c, int *status)
{
	unsigned int stops = 0;
	int sig = 0;

	for (;;) {
		struct user_regs_struct regs;

		if (waitpid(c->pid, status, 0) != c->pid || !WIFSTOPPED(*status))
			return stops;
		sig = WSTOPSIG(*status);
		if (sig == SIGTRAP && ptrace(PTRACE_GETREGS, c->pid, NULL, &regs) == 0)
			stops += regs.orig_rax == SYS_getppid;
		if (sig == SIGTRAP || sig == SIGSTOP)
			sig = 0;
		ptrace(PTRACE_SYSCALL, c->pid, NULL, (long)sig);
	}
}

static void watched(struct child *self, struct child *outside, struct child *tracee)
{
	unsigned int stops;
	int status;

	child_go(self);
	status = child_wait(self);
	ktap_ok(status == 0, "a filter holds for calls that were fast before (%s)",
		child_status(status));
	child_go(outside);
	status = child_wait(outside);
	ktap_ok(status == 0, "also one that another thread installs (%s)", child_status(status));
	child_go(tracee);
	stops = trace(tracee, &status);
	ktap_eq(stops, 20, "a tracer sees each of ten calls begin and end");
	ktap_ok(status == 0, "and the tracee gets its results (%s)", child_status(status));
}

int main(void)
{
	struct child general, fast, self, outside, tracee;

	ktap_plan(DUNE_TEST_ENTER + 18 + DUNE_TEST_LEAVE);
	shared = child_shared(sizeof(*shared));
	general = child_start(battery, NULL);
	fast = child_start(battery, &shared);
	self = child_start(filter_itself, NULL);
	outside = child_start(filter_from_outside, NULL);
	tracee = child_start(traced, NULL);
	dune_test_enter();
	same_results(&general, &fast);
	signals();
	watched(&self, &outside, &tracee);
	return dune_test_done();
}
