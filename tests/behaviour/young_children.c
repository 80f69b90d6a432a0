/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 thorough */
/*
 * Signals and stops that come to a child while it is being made: Linux gives up
 * registering an address space with the module then (mm_take_all_locks()), and it is
 * to be done again afterwards, not to be the end of the child.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <fcntl.h>
#include <sys/time.h>

#define ROUNDS	150
#define OPENS	1000

static volatile sig_atomic_t signals;

static void on_signal(int sig)
{
	(void)sig;
	signals++;
}

static pid_t make(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(dune_test_cpl() == 0 && dune_in_guest() ? 7 : 8);
	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	return pid;
}

static bool ends_well(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			ktap_bail("waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 7)
		return true;
	ktap_note("a child ended with status 0x%x", (unsigned int)status);
	return false;
}

/* Seconds from fork() to a child's end, of some the shortest. */
static double life(void)
{
	double shortest = 1;

	for (int i = 0; i < 20; i++) {
		double from = child_now();

		if (!ends_well(make()))
			ktap_bail("a child that nobody disturbs");
		if (child_now() - from < shortest)
			shortest = child_now() - from;
	}
	return shortest;
}

static void pause_for(double seconds)
{
	double end = child_now() + seconds;

	while (child_now() < end)
		;
}

static void stopped(double seconds)
{
	bool ok = true;
	int stops = 0;

	for (int i = 0; ok && i < ROUNDS; i++) {
		pid_t pid = make();
		siginfo_t info;

		pause_for(seconds * i / ROUNDS);
		kill(pid, SIGSTOP);
		if (waitid(P_PID, (id_t)pid, &info, WSTOPPED | WEXITED | WNOWAIT))
			ktap_bail("waitid: %s", strerror(errno));
		stops += info.si_code == CLD_STOPPED;
		kill(pid, SIGCONT);
		ok = ends_well(pid);
	}
	ktap_ok(ok && stops > 0, "%d children stop before they have ended, and go on", stops);
}

/* Of another process: it signals all of the test's, children from their first moment on. */
static int signals_all(void *arg)
{
	struct timespec ms = { 0, 1000000 };

	(void)arg;
	signal(SIGUSR1, SIG_IGN);
	for (;;) {
		kill(0, SIGUSR1);
		nanosleep(&ms, NULL);
	}
	return 0;
}

static void signalled(struct child *sender)
{
	bool ok = true;

	child_go(sender);
	for (int i = 0; ok && i < ROUNDS; i++)
		ok = ends_well(make());
	kill(sender->pid, SIGKILL);
	ktap_ok(WIFSIGNALED(child_wait(sender)) && ok && signals > ROUNDS / 10,
		"children are sent signals that they handle");
}

/* A process of its own, outside Dune mode: its timer is to hit what open() does. */
static int opens(void *arg)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } };
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	double end = child_now() + 60;
	int n = 0;

	(void)arg;
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (n < OPENS && child_now() < end) {
		int fd = open("/dev/dune", O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			ktap_note("open: %s, after %d", strerror(errno), n);
			return 1;
		}
		close(fd);
		n++;
	}
	return signals > 0 ? 0 : 2;
}

int main(void)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct child sender, opener;

	ktap_plan(DUNE_TEST_ENTER + 3 + DUNE_TEST_LEAVE);
	sigaction(SIGUSR1, &act, NULL);
	if (setpgid(0, 0))
		ktap_bail("setpgid: %s", strerror(errno));
	sender = child_start(signals_all, NULL);
	opener = child_start(opens, NULL);
	dune_test_enter();
	stopped(life());
	signalled(&sender);
	child_go(&opener);
	ktap_ok(child_wait(&opener) == 0, "/dev/dune is opened while a timer sends signals");
	return dune_test_done();
}
