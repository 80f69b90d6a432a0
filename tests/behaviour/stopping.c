/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 slow-bochs=11 */
/*
 * Stop and continue, as job control uses them: what the parent is told by waitpid(),
 * waitid() and SIGCHLD, and what the stopped process notices, which is nothing.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <pthread.h>
#include <sched.h>

static struct shared {
	volatile unsigned long beats[4];
	volatile int cpl[4];
	volatile int restarted, tstp, slept_ms, eintr;
} *shared;

static pid_t start(void (*fn)(void))
{
	pid_t pid;

	memset((void *)shared, 0, sizeof(*shared));
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		shared->cpl[0] = (int)dune_test_cpl() + 1;
		fn();
		_exit(0);
	}
	return pid;
}

static bool beats_more(unsigned int i)
{
	unsigned long from = shared->beats[i];
	double end = child_now() + 30;

	while (shared->beats[i] < from + 3)
		if (child_now() > end)
			return false;
		else
			sched_yield();
	return true;
}

static bool stands_still(unsigned int i)
{
	unsigned long from = shared->beats[i];
	struct timespec nap = { 0, 50000000 };

	nanosleep(&nap, NULL);
	return shared->beats[i] == from;
}

static void compute(void)
{
	for (;;)
		shared->beats[0]++;
}

static void nap(void)
{
	struct timespec ms = { 0, 1000000 };

	for (;;) {
		shared->beats[0]++;
		if (nanosleep(&ms, NULL))
			shared->eintr++;
	}
}

static bool waits(pid_t pid, int options, int want)
{
	int status = 0;

	if (waitpid(pid, &status, options) == pid && status == want)
		return true;
	ktap_note("wait status 0x%x, not 0x%x", (unsigned int)status, (unsigned int)want);
	return false;
}

#define STATUS_STOPPED(sig)	((sig) << 8 | 0x7f)
#define STATUS_CONTINUED	0xffff

static void cycle(void (*fn)(void), int sig, const char *name)
{
	pid_t pid = start(fn);
	bool ok = beats_more(0);

	for (int i = 0; ok && i < 5; i++) {
		kill(pid, sig);
		ok = waits(pid, WUNTRACED, STATUS_STOPPED(sig)) && stands_still(0) &&
		     waitpid(pid, NULL, WNOHANG | WUNTRACED) == 0;
		kill(pid, SIGCONT);
		ok = ok && waits(pid, WCONTINUED, STATUS_CONTINUED) && beats_more(0);
	}
	kill(pid, sig);
	ok = ok && waits(pid, WUNTRACED, STATUS_STOPPED(sig));
	kill(pid, SIGTERM);		/* waits until it goes on */
	ok = ok && stands_still(0) && waitpid(pid, NULL, WNOHANG) == 0;
	kill(pid, SIGCONT);
	ok = ok && waits(pid, 0, SIGTERM);
	ktap_ok(ok && shared->cpl[0] == 1 && !shared->eintr, "%s", name);
}

/* ---- waitid and SIGCHLD --------------------------------------------------- */

static volatile int chld_code, chld_status, chld_pid, chld_count;

static void on_chld(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	chld_code = info->si_code;
	chld_status = info->si_status;
	chld_pid = (int)info->si_pid;
	chld_count++;
}

static bool chld_says(pid_t pid, int code, int status)
{
	double end = child_now() + 30;

	while (!(chld_code == code && chld_status == status && chld_pid == pid))
		if (child_now() > end) {
			ktap_note("SIGCHLD: code %d, status %d, not %d, %d", chld_code, chld_status,
				  code, status);
			return false;
		}
	return true;
}

static bool waitid_says(pid_t pid, int options, int code, int status)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	if (waitid(P_PID, (id_t)pid, &info, options) == 0 && info.si_pid == pid &&
	    info.si_code == code && info.si_status == status)
		return true;
	ktap_note("waitid: code %d, status %d, not %d, %d", info.si_code, info.si_status, code,
		  status);
	return false;
}

static void told(void)
{
	struct sigaction act;
	pid_t pid;
	bool ok;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_chld;
	act.sa_flags = SA_SIGINFO | SA_RESTART;
	sigaction(SIGCHLD, &act, NULL);
	pid = start(compute);
	ok = beats_more(0);
	kill(pid, SIGSTOP);
	ok = ok && chld_says(pid, CLD_STOPPED, SIGSTOP) &&
	     waitid_says(pid, WSTOPPED | WNOWAIT, CLD_STOPPED, SIGSTOP) &&
	     waitid_says(pid, WSTOPPED, CLD_STOPPED, SIGSTOP);
	kill(pid, SIGCONT);
	ok = ok && chld_says(pid, CLD_CONTINUED, SIGCONT) &&
	     waitid_says(pid, WCONTINUED, CLD_CONTINUED, SIGCONT);
	kill(pid, SIGKILL);
	ok = ok && chld_says(pid, CLD_KILLED, SIGKILL) &&
	     waitid_says(pid, WEXITED, CLD_KILLED, SIGKILL);
	ktap_ok(ok && chld_count == 3, "SIGCHLD and waitid say stopped, continued, killed");

	act.sa_flags |= SA_NOCLDSTOP;
	sigaction(SIGCHLD, &act, NULL);
	chld_count = 0;
	pid = start(compute);
	ok = beats_more(0);
	kill(pid, SIGSTOP);
	ok = ok && waits(pid, WUNTRACED, STATUS_STOPPED(SIGSTOP)) && chld_count == 0;
	kill(pid, SIGCONT);
	ok = ok && waits(pid, WCONTINUED, STATUS_CONTINUED) && chld_count == 0;
	kill(pid, SIGKILL);
	ok = ok && waits(pid, 0, SIGKILL) && chld_says(pid, CLD_KILLED, SIGKILL);
	ktap_ok(ok, "SA_NOCLDSTOP: only its death is told");
	signal(SIGCHLD, SIG_DFL);
}

/* ---- several threads -------------------------------------------------------- */

static void *beat(void *arg)
{
	unsigned int i = (unsigned int)(uintptr_t)arg;
	struct timespec ms = { 0, 1000000 };

	shared->cpl[i] = (int)dune_test_cpl() + 1;
	for (;;) {
		shared->beats[i]++;
		if (i & 1)
			nanosleep(&ms, NULL);
	}
	return NULL;
}

static void many(void)
{
	pthread_t t;

	for (uintptr_t i = 1; i < 4; i++)
		if (pthread_create(&t, NULL, beat, (void *)i))
			_exit(1);
	beat((void *)0);
}

static void threads(void)
{
	pid_t pid = start(many);
	bool ok = true, still = true;

	for (unsigned int i = 0; i < 4; i++)
		ok = ok && beats_more(i) && shared->cpl[i] == 1;
	kill(pid, SIGSTOP);
	ok = ok && waits(pid, WUNTRACED, STATUS_STOPPED(SIGSTOP));
	for (unsigned int i = 0; i < 4; i++)
		still = still && stands_still(i);
	kill(pid, SIGCONT);
	ok = ok && waits(pid, WCONTINUED, STATUS_CONTINUED);
	for (unsigned int i = 0; i < 4; i++)
		ok = ok && beats_more(i);
	kill(pid, SIGKILL);
	ktap_ok(ok && still && waits(pid, 0, SIGKILL), "all threads stop, and all go on");
}

/* ---- handlers ---------------------------------------------------------------- */

static void on_cont(int sig)
{
	(void)sig;
	shared->restarted = (int)dune_test_cpl() + 1;
}

/* As editors do: put the terminal in order, stop by the default action, go on. */
static void on_tstp(int sig)
{
	sigset_t set;

	shared->tstp++;
	signal(sig, SIG_DFL);
	raise(sig);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);	/* stops here */
	shared->tstp++;
	signal(sig, on_tstp);
}

static void handled(void)
{
	signal(SIGTSTP, on_tstp);
	signal(SIGCONT, on_cont);
	compute();
}

/* A sleep that is stopped lasts as long as it was to. */
static struct child_gate awake;

static void long_sleep(void)
{
	struct timespec ts = { 0, 400000000 };
	double from = child_now();

	shared->beats[0] = 3;
	shared->eintr = nanosleep(&ts, NULL) != 0;
	shared->slept_ms = (int)((child_now() - from) * 1000);
	child_at_gate(awake);
}

static void handlers(void)
{
	pid_t pid = start(handled);
	bool ok = beats_more(0);

	for (int i = 1; ok && i < 4; i++) {
		shared->restarted = 0;
		kill(pid, SIGTSTP);
		ok = waits(pid, WUNTRACED, STATUS_STOPPED(SIGTSTP)) && shared->tstp == 2 * i - 1;
		kill(pid, SIGCONT);
		ok = ok && waits(pid, WCONTINUED, STATUS_CONTINUED) && beats_more(0) &&
		     shared->tstp == 2 * i && shared->restarted == 1;
	}
	kill(pid, SIGKILL);
	ktap_ok(ok && waits(pid, 0, SIGKILL), "a handler of SIGTSTP that stops itself, one of SIGCONT");

	awake = child_gate();
	pid = start(long_sleep);
	while (!shared->beats[0])
		sched_yield();
	usleep(50000);
	kill(pid, SIGSTOP);
	ok = waits(pid, WUNTRACED, STATUS_STOPPED(SIGSTOP));
	usleep(100000);
	kill(pid, SIGCONT);
	ok = ok && waits(pid, WCONTINUED, STATUS_CONTINUED);
	child_open_gate(awake);
	ok = waits(pid, 0, 0) && ok;
	ktap_ok(ok && !shared->eintr && shared->slept_ms >= 400, "a stopped sleep is resumed (%d ms)",
		shared->slept_ms);
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 9 + DUNE_TEST_LEAVE);
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	shared = child_shared(sizeof(*shared));
	dune_test_enter();
	cycle(compute, SIGSTOP, "SIGSTOP and SIGCONT for a child that computes");
	cycle(nap, SIGSTOP, "SIGSTOP and SIGCONT for a child that sleeps");
	cycle(compute, SIGTSTP, "SIGTSTP for a child that computes");
	cycle(nap, SIGTTIN, "SIGTTIN for a child that sleeps");
	told();
	threads();
	handlers();
	return dune_test_done();
}
