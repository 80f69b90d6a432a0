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
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>

#define CALLS		1000
#define RESULTS		64
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

	path = arg != NULL;
	dune_set_fast_calls(path);
	dune_test_child_enter();
	files();
	memory();
	others();
	before = dune_test_stats();
	for (int i = 0; i < CALLS; i++)
		CALL(SYS_getpid);
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
		shared->results[1] > 40 && shared->results[1] < RESULTS,
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
 * A read of an empty pipe, and alarms from 50 ms on: the first may come before it.  A restarted
 * one is fed by the handler.
 */
static long interrupted_read(int flags)
{
	static const struct itimerval soon = { { 0, 50000 }, { 0, 50000 } }, never;
	struct sigaction act;
	int end[2];
	char byte = 0;
	long ret;

	memset(&act, 0, sizeof(act));
	act.sa_handler = on_alarm;
	act.sa_flags = flags;
	sigaction(SIGALRM, &act, NULL);
	if (pipe(end))
		return -1000;
	alarms = 0;
	feed = flags & SA_RESTART ? end[1] : -1;
	setitimer(ITIMER_REAL, &soon, NULL);
	ret = CALL(SYS_read, end[0], &byte, 1);
	setitimer(ITIMER_REAL, &never, NULL);
	close(end[0]);
	close(end[1]);
	return ret;
}

static void signals(void)
{
	uint64_t runs = dune_test_stats().runs;
	long ret;

	ret = interrupted_read(0);
	ktap_ok(ret == -EINTR && alarms >= 1 && alarms < 1000,
		"a handler interrupts a read (%ld, %d)", ret, alarms);
	ret = interrupted_read(SA_RESTART);
	ktap_ok(ret == 1 && alarms >= 1 && alarms < 1000,
		"one with SA_RESTART restarts it (%ld, %d)", ret, alarms);
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

	ktap_plan(DUNE_TEST_ENTER + 14 + DUNE_TEST_LEAVE);
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
