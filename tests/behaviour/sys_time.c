/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * Time in Dune mode: the vDSO's functions agree with the system calls and make
 * none themselves; sleeps last as long as they must.
 */
#define _GNU_SOURCE
#include "../mem.h"
#include "../cpus.h"

#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

#define ROUNDS	200

static int64_t ns(const struct timespec *ts)
{
	return (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
}

static const struct {
	clockid_t id;
	const char *name;
	enum { CALL, VDSO, COARSE } how;	/* a system call; none; none on any machine */
} clocks[] = {
	{ CLOCK_REALTIME, "CLOCK_REALTIME", VDSO },
	{ CLOCK_MONOTONIC, "CLOCK_MONOTONIC", VDSO },
	{ CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC_RAW", VDSO },
	{ CLOCK_BOOTTIME, "CLOCK_BOOTTIME", VDSO },
	{ CLOCK_REALTIME_COARSE, "CLOCK_REALTIME_COARSE", COARSE },
	{ CLOCK_MONOTONIC_COARSE, "CLOCK_MONOTONIC_COARSE", COARSE },
	{ CLOCK_PROCESS_CPUTIME_ID, "CLOCK_PROCESS_CPUTIME_ID", CALL },
	{ CLOCK_THREAD_CPUTIME_ID, "CLOCK_THREAD_CPUTIME_ID", CALL },
};

#define CLOCKS	(sizeof(clocks) / sizeof(clocks[0]))

/* libc's reading lies between two by system call. */
static bool clock_agrees(clockid_t id)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct timespec before, libc, after;

		if (syscall(SYS_clock_gettime, id, &before) || clock_gettime(id, &libc) ||
		    syscall(SYS_clock_gettime, id, &after))
			return false;
		if (ns(&libc) < ns(&before) || ns(&libc) > ns(&after)) {
			ktap_note("%lld is not within %lld..%lld", (long long)ns(&libc),
				  (long long)ns(&before), (long long)ns(&after));
			return false;
		}
	}
	return true;
}

/* The vDSO reads the TSC; where the kernel keeps time by another clock it makes the call. */
static bool by_tsc(void)
{
	char name[16] = "";
	int fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
		      O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, name, sizeof(name) - 1) < 3)
		ktap_bail("current_clocksource: %s", strerror(errno));
	close(fd);
	ktap_fact("clocksource", "%.*s", (int)strcspn(name, "\n"), name);
	return !strncmp(name, "tsc", 3);
}

/* The system calls of ROUNDS readings. */
static uint64_t calls_of(clockid_t id)
{
	uint64_t before = dune_test_hypercalls();
	struct timespec ts;

	for (int i = 0; i < ROUNDS; i++)
		clock_gettime(id, &ts);
	return dune_test_hypercalls() - before;
}

static bool seconds_agree(void)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct timeval before, after;
		time_t t;

		syscall(SYS_gettimeofday, &before, NULL);
		t = time(NULL);
		gettimeofday(&after, NULL);
		/* time() has the resolution of a tick. */
		if (t < before.tv_sec - 1 || t > after.tv_sec || after.tv_sec < before.tv_sec)
			return false;
		if (labs(syscall(SYS_time, NULL) - t) > 1)
			return false;
	}
	return true;
}

static bool never_back(void)
{
	struct timespec last = { 0, 0 }, now;

	for (int i = 0; i < 20000; i++) {
		if (i % 5000 == 0 && cpus_pin(0, i / 5000 % cpus_count()))
			return false;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (ns(&now) < ns(&last))
			return false;
		last = now;
	}
	for (int cpu = 0; cpu < cpus_count(); cpu++) {
		unsigned int got;

		if (cpus_pin(0, cpu) || syscall(SYS_getcpu, &got, NULL, NULL) ||
		    (int)got != cpus_number(cpu))
			return false;
	}
	return true;
}

static int64_t slept(clockid_t id, int flags, struct timespec nap)
{
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (flags & TIMER_ABSTIME) {
		clock_gettime(id, &end);
		nap.tv_sec += end.tv_sec;
		nap.tv_nsec += end.tv_nsec;
		if (nap.tv_nsec >= 1000000000) {
			nap.tv_nsec -= 1000000000;
			nap.tv_sec++;
		}
	}
	if (clock_nanosleep(id, flags, &nap, NULL))
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	return ns(&end) - ns(&start);
}

static bool sleeps(void)
{
	struct timespec nap = { 0, 30000000 }, bad = { 0, 1000000000 };

	return slept(CLOCK_MONOTONIC, 0, nap) >= 30000000 &&
	       slept(CLOCK_MONOTONIC, TIMER_ABSTIME, nap) >= 29000000 &&
	       slept(CLOCK_REALTIME, 0, nap) >= 30000000 &&
	       slept(CLOCK_BOOTTIME, TIMER_ABSTIME, nap) >= 29000000 &&
	       clock_nanosleep(CLOCK_MONOTONIC, 0, &bad, NULL) == EINVAL &&
	       clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &nap, NULL) == EINVAL;
}

/* Time spent in guest mode is the process's own, as user time. */
static bool time_is_counted(void)
{
	struct timespec start, end;
	struct tms before, after;
	double stop;

	times(&before);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	for (stop = child_now() + 0.5; child_now() < stop; )
		for (volatile int i = 0; i < 200000; i++)
			;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	times(&after);
	return ns(&end) - ns(&start) > 20000000 && after.tms_utime + after.tms_stime >
						   before.tms_utime + before.tms_stime;
}

int main(void)
{
	bool tsc;

	ktap_plan(DUNE_TEST_ENTER + 2 * CLOCKS + 4 + DUNE_TEST_LEAVE);
	cpus_count();
	tsc = by_tsc();
	dune_test_enter();

	for (size_t i = 0; i < CLOCKS; i++) {
		bool none = clocks[i].how == COARSE || (clocks[i].how == VDSO && tsc);
		uint64_t calls = calls_of(clocks[i].id);

		ktap_ok(clock_agrees(clocks[i].id), "%s agrees with the system call",
			clocks[i].name);
		ktap_ok(calls == (none ? 0 : ROUNDS), "%s: %llu system calls",
			clocks[i].name, (unsigned long long)calls);
	}
	ktap_ok(seconds_agree(), "time and gettimeofday");
	ktap_ok(never_back(), "no step backwards from CPU to CPU, and getcpu tells which");
	ktap_ok(sleeps(), "clock_nanosleep, relative and absolute");
	ktap_ok(time_is_counted(), "time in guest mode counts as the process's own");
	return dune_test_done();
}
