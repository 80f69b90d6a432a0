/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 */
/*
 * Timers interrupt a loop that makes no system call: real time, CPU time of the
 * process and of the thread, with the siginfo that says which; queued signals carry
 * their values between processes.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static volatile unsigned int got, outside;
static volatile int last_code, last_value, most_overruns;
static volatile pid_t last_tid;

static void on_timer(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	outside += dune_test_cpl() != 0;
	last_code = info->si_code;
	last_value = info->si_value.sival_int;
	if (info->si_code == SI_TIMER && info->si_overrun > most_overruns)
		most_overruns = info->si_overrun;
	last_tid = (pid_t)syscall(SYS_gettid);
	got++;
}

static void handle(int sig)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_timer;
	act.sa_flags = SA_SIGINFO | SA_RESTART;
	if (sigaction(sig, &act, NULL))
		ktap_bail("sigaction %d: %s", sig, strerror(errno));
	got = outside = 0;
}

/* The time of the vDSO: a loop around it makes no system call. */
static double vdso_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Burns time without a system call until @want signals came, 20 s at most; the hypercalls. */
static uint64_t spin_until(unsigned int want)
{
	uint64_t before = dune_test_hypercalls();
	double end = vdso_now() + 20;

	while (got < want && vdso_now() < end)
		for (volatile int i = 0; i < 1000; i++)
			;
	return dune_test_hypercalls() - before;
}

/* ---- interval timers -------------------------------------------------------- */

static void interval(int which, int sig, const char *name)
{
	struct itimerval tick = { { 0, 20000 }, { 0, 20000 } }, off = { { 0, 0 }, { 0, 0 } }, left;
	uint64_t calls;

	handle(sig);
	setitimer(which, &tick, NULL);
	calls = spin_until(5);
	setitimer(which, &off, &left);
	ktap_ok(got >= 5 && outside == 0 && last_code == SI_KERNEL &&
		left.it_interval.tv_usec == 20000,
		"%s interrupts a busy loop (%u signals, %llu calls)", name, got,
		(unsigned long long)calls);
}

static void alarms(void)
{
	handle(SIGALRM);
	alarm(1);
	spin_until(1);
	ktap_ok(got == 1 && outside == 0 && alarm(0) == 0, "alarm() interrupts a busy loop");
}

/* ---- POSIX timers ------------------------------------------------------------- */

static void posix_timer(clockid_t clock, const char *name)
{
	struct sigevent ev;
	struct itimerspec tick = { { 0, 20000000 }, { 0, 20000000 } };
	timer_t timer;

	handle(SIGRTMIN + 3);
	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = SIGRTMIN + 3;
	ev.sigev_value.sival_int = 4711;
	if (timer_create(clock, &ev, &timer) || timer_settime(timer, 0, &tick, NULL))
		ktap_bail("timer of %s: %s", name, strerror(errno));
	spin_until(5);
	timer_delete(timer);
	ktap_ok(got >= 5 && outside == 0 && last_code == SI_TIMER && last_value == 4711,
		"a timer of %s interrupts a busy loop (%u signals)", name, got);
}

static volatile pid_t busy_tid;
static volatile int stop_busy, busy_inside;

static void *busy(void *arg)
{
	(void)arg;
	busy_inside = dune_test_cpl() == 0;
	busy_tid = gettid();
	while (!stop_busy)
		;
	return NULL;
}

static void thread_timer(void)
{
	struct sigevent ev;
	struct itimerspec tick = { { 0, 20000000 }, { 0, 20000000 } };
	timer_t timer;
	pthread_t t;

	handle(SIGRTMIN + 4);
	if (pthread_create(&t, NULL, busy, NULL))
		ktap_bail("pthread_create");
	while (!busy_tid)
		sched_yield();
	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_THREAD_ID;
	ev.sigev_signo = SIGRTMIN + 4;
	ev.sigev_notify_thread_id = busy_tid;
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &tick, NULL))
		ktap_bail("timer for a thread: %s", strerror(errno));
	spin_until(5);
	timer_delete(timer);
	stop_busy = 1;
	pthread_join(t, NULL);
	ktap_ok(got >= 5 && outside == 0 && busy_inside && last_tid == busy_tid,
		"SIGEV_THREAD_ID interrupts the thread that it names");
}

static volatile int called, called_cpl;

static void on_expiry(union sigval v)
{
	called_cpl = (int)dune_test_cpl();
	called = v.sival_int;
}

static void callback_timer(void)
{
	struct sigevent ev;
	struct itimerspec once = { { 0, 0 }, { 0, 20000000 } };
	double end = child_now() + 20;
	timer_t timer;

	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_THREAD;
	ev.sigev_notify_function = on_expiry;
	ev.sigev_value.sival_int = 99;
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &once, NULL))
		ktap_bail("timer with a function: %s", strerror(errno));
	while (!called && child_now() < end)
		sched_yield();
	timer_delete(timer);
	ktap_ok(called == 99 && called_cpl == 0, "SIGEV_THREAD runs its function in Dune mode");
}

static void overruns(void)
{
	struct sigevent ev;
	struct itimerspec tick = { { 0, 1000000 }, { 0, 1000000 } };
	struct timespec nap = { 0, 100000000 };
	sigset_t set;
	timer_t timer;

	handle(SIGRTMIN + 5);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	sigprocmask(SIG_BLOCK, &set, NULL);
	memset(&ev, 0, sizeof(ev));
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = SIGRTMIN + 5;
	if (timer_create(CLOCK_MONOTONIC, &ev, &timer) || timer_settime(timer, 0, &tick, NULL))
		ktap_bail("timer: %s", strerror(errno));
	nanosleep(&nap, NULL);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	spin_until(1);
	timer_delete(timer);
	ktap_ok(got >= 1 && most_overruns > 10, "a blocked timer counts its overruns (%d)",
		most_overruns);
}

static struct rusage ru_before, ru_after;

/* ---- CPU time ------------------------------------------------------------------ */

static double cpu_time(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* What a thread computes in guest mode is its own time, and user time. */
static void accounting(void)
{
	double before = cpu_time(CLOCK_THREAD_CPUTIME_ID), user, system, end;
	struct timeval u, s;

	/* Seldom asked: where the TSC does not serve as a clock, vdso_now() is a system call. */
	end = vdso_now() + 0.5;
	getrusage(RUSAGE_SELF, &ru_before);
	while (vdso_now() < end)
		for (volatile int i = 0; i < 200000; i++)
			;
	getrusage(RUSAGE_SELF, &ru_after);
	timersub(&ru_after.ru_utime, &ru_before.ru_utime, &u);
	timersub(&ru_after.ru_stime, &ru_before.ru_stime, &s);
	user = (double)u.tv_sec + (double)u.tv_usec * 1e-6;
	system = (double)s.tv_sec + (double)s.tv_usec * 1e-6;
	ktap_note("user %.3f s, system %.3f s", user, system);
	ktap_ok(cpu_time(CLOCK_THREAD_CPUTIME_ID) - before > 0.1 && user > system,
		"computing in guest mode is user time");
}

/* ---- values ---------------------------------------------------------------------- */

static struct { volatile int ready; volatile int sum; volatile int order; volatile int inside; } *box;

static volatile int values;

static void on_value(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	box->order += info->si_value.sival_int != values || info->si_code != SI_QUEUE ||
		      info->si_pid != getppid();
	box->sum += info->si_value.sival_int;
	values++;
}

static int receiver(void *arg)
{
	struct sigaction act;
	bool dune = arg;

	if (dune)
		dune_test_child_enter();
	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_value;
	act.sa_flags = SA_SIGINFO;
	sigaction(SIGRTMIN + 6, &act, NULL);
	box->inside = dune_test_cpl() == 0;
	box->ready = 1;
	while (values < 100)
		;
	return 14;
}

static void send_values(struct child *to, bool dune)
{
	union sigval v = { 0 };
	int status;

	memset((void *)box, 0, sizeof(*box));
	child_go(to);
	while (!box->ready)
		sched_yield();
	for (v.sival_int = 0; v.sival_int < 100; v.sival_int++)
		while (sigqueue(to->pid, SIGRTMIN + 6, v) && errno == EAGAIN)
			sched_yield();
	status = child_wait(to);
	ktap_ok(status == 14 << 8 && box->sum == 4950 && box->order == 0 && box->inside == dune,
		"a hundred values reach %s process in order", dune ? "a busy Dune" : "a native");
}

int main(void)
{
	struct child native, dune;

	ktap_plan(DUNE_TEST_ENTER + 13 + DUNE_TEST_LEAVE);
	box = child_shared(sizeof(*box));
	native = child_start(receiver, NULL);
	dune = child_start(receiver, box);
	dune_test_enter();

	alarms();
	interval(ITIMER_REAL, SIGALRM, "ITIMER_REAL");
	interval(ITIMER_VIRTUAL, SIGVTALRM, "ITIMER_VIRTUAL");
	interval(ITIMER_PROF, SIGPROF, "ITIMER_PROF");
	posix_timer(CLOCK_MONOTONIC, "CLOCK_MONOTONIC");
	posix_timer(CLOCK_PROCESS_CPUTIME_ID, "CLOCK_PROCESS_CPUTIME_ID");
	posix_timer(CLOCK_THREAD_CPUTIME_ID, "CLOCK_THREAD_CPUTIME_ID");
	thread_timer();
	callback_timer();
	overruns();
	send_values(&native, false);
	send_values(&dune, true);
	accounting();
	return dune_test_done();
}
