/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Signals that reach a thread in Dune mode.  Their handlers run outside, in
 * ring 3, and Dune mode goes on afterwards where it was, with all its
 * registers.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../trap.h"

#include <sys/time.h>

static volatile unsigned int got, wrong_ring;
static volatile int last_code, last_pid;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	got++;
	wrong_ring += dune_test_cpl() != 3 || dune_in_guest();
	last_code = info->si_code;
	last_pid = (int)info->si_pid;
}

static void handle(int sig, int flags)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = on_signal;
	act.sa_flags = SA_SIGINFO | flags;
	sigaction(sig, &act, NULL);
	got = 0;
}

/* Spins in guest mode with known registers until @want signals came. */
static bool registers_survive(unsigned int want)
{
	double end = child_now() + 20;
	bool ok = true;

	while (got < want && child_now() < end) {
		unsigned long loops = 2000000, r8 = 0x8888, r15 = 0xffff;
		double x = 1.25, y = 0;

		asm volatile("movsd %[x], %%xmm9\n\t"
			     "movq %[r8], %%r8\n\t" "movq %[r15], %%r15\n"
			     "1:	decq %[loops]\n\t" "jnz 1b\n\t"
			     "movq %%r8, %[r8]\n\t" "movq %%r15, %[r15]\n\t"
			     "movsd %%xmm9, %[y]"
			     : [loops] "+r"(loops), [r8] "+m"(r8), [r15] "+m"(r15), [y] "=m"(y)
			     : [x] "m"(x) : "r8", "r15", "xmm9", "cc", "memory");
		ok &= r8 == 0x8888 && r15 == 0xffff && y == x;
	}
	return ok && got >= want;
}

static int bystander(void *arg)
{
	struct timespec nap = { 0, 50000000 };

	(void)arg;
	nanosleep(&nap, NULL);
	kill(getppid(), SIGUSR2);
	return 0;
}

int main(void)
{
	struct itimerval tick = { { 0, 10000 }, { 0, 10000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct timespec nap = { 5, 0 };
	struct child other;
	sigset_t set, old;
	int pipes[2];
	char byte;

	ktap_plan(DUNE_TEST_ENTER + 10 + DUNE_TEST_LEAVE);
	other = child_start(bystander, NULL);
	if (pipe(pipes))
		ktap_bail("pipe: %s", strerror(errno));
	dune_test_enter();

	handle(SIGUSR1, 0);
	raise(SIGUSR1);
	ktap_ok(got == 1 && last_pid == getpid(), "raise() runs the handler before it returns");
	ktap_eq(dune_test_cpl(), 0, "and Dune mode goes on");

	handle(SIGALRM, SA_RESTART);
	setitimer(ITIMER_REAL, &tick, NULL);
	ktap_ok(registers_survive(20), "twenty alarms leave the registers alone");
	setitimer(ITIMER_REAL, &off, NULL);

	handle(SIGUSR2, 0);
	child_go(&other);
	errno = 0;
	ktap_ok(nanosleep(&nap, &nap) == -1 && errno == EINTR && got == 1 && last_pid == other.pid,
		"a signal of another process interrupts nanosleep");
	ktap_eq(child_wait(&other), 0, "which ends well");

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, &old);
	handle(SIGUSR1, 0);
	raise(SIGUSR1);
	ktap_eq(got, 0, "a blocked signal waits");
	sigprocmask(SIG_SETMASK, &old, NULL);
	ktap_eq(got, 1, "until it is unblocked");

	handle(SIGALRM, SA_RESTART);
	tick.it_interval.tv_usec = 0;
	tick.it_value.tv_usec = 20000;
	setitimer(ITIMER_REAL, &tick, NULL);
	if (fork() == 0) {	/* writes after the alarm */
		usleep(200000);
		_exit(write(pipes[1], "x", 1) == 1 ? 0 : 1);
	}
	ktap_ok(read(pipes[0], &byte, 1) == 1 && got == 1, "SA_RESTART restarts a read");
	wait(NULL);

	signal(SIGPIPE, SIG_IGN);
	close(pipes[0]);
	errno = 0;
	ktap_ok(write(pipes[1], "x", 1) == -1 && errno == EPIPE, "an ignored SIGPIPE is EPIPE");
	ktap_eq(wrong_ring, 0, "all handlers ran in ring 3");
	return dune_test_done();
}
