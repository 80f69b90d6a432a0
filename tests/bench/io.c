/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount spread=3 */
/*
 * Reading and writing: one byte of /dev/zero, 64 KB to /dev/null, a byte
 * through a pipe and back out of it, and a byte to another process and its
 * answer.  The other process is never in Dune mode.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "bench.h"

#include <fcntl.h>

#define ROUNDS	200
#define LARGE	65536

static int zero, null, self[2], there[2], back[2];
static char large[LARGE];

static void expect(ssize_t got, ssize_t want)
{
	if (got != want)
		ktap_bail("%zd bytes moved, not %zd: %s", got, want, strerror(errno));
}

static void read_byte(unsigned int n, void *arg)
{
	char byte;

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		expect(read(zero, &byte, 1), 1);
}

static void write_large(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		expect(write(null, large, LARGE), LARGE);
}

static void pipe_itself(unsigned int n, void *arg)
{
	char byte = 0;

	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		expect(write(self[1], &byte, 1), 1);
		expect(read(self[0], &byte, 1), 1);
	}
}

static void pipe_other(unsigned int n, void *arg)
{
	char byte = 0;

	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		expect(write(there[1], &byte, 1), 1);
		expect(read(back[0], &byte, 1), 1);
	}
}

static int echo(void *arg)
{
	char byte;

	(void)arg;
	close(there[1]);
	while (read(there[0], &byte, 1) == 1)
		expect(write(back[1], &byte, 1), 1);
	return 0;
}

static const struct {
	const char *name;
	void (*batch)(unsigned int n, void *arg);
	unsigned int exits;	/* of one operation, but for interrupts and faults */
} cases[] = {
	{ "read_1", read_byte, 1 },
	{ "write_64k", write_large, 1 },
	{ "pipe_itself", pipe_itself, 2 },
	{ "pipe_round_trip", pipe_other, 2 },
};

#define CASES	(sizeof(cases) / sizeof(cases[0]))

int main(void)
{
	struct bench native[CASES], dune[CASES];
	struct child child;
	char name[48];

	ktap_plan(DUNE_TEST_ENTER + CASES + DUNE_TEST_LEAVE);
	bench_pin();
	zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (zero < 0 || null < 0 || pipe(self) || pipe(there) || pipe(back))
		ktap_bail("set-up: %s", strerror(errno));
	child = child_start(echo, NULL);
	child_go(&child);
	for (unsigned int i = 0; i < CASES; i++)
		bench_run(&native[i], cases[i].batch, NULL, ROUNDS);
	dune_test_enter();
	for (unsigned int i = 0; i < CASES; i++) {
		uint64_t calls;

		bench_run(&dune[i], cases[i].batch, NULL, ROUNDS);
		calls = dune_test_hypercalls();
		cases[i].batch(ROUNDS, NULL);
		calls = dune_test_hypercalls() - calls;
		snprintf(name, sizeof(name), "%s_native", cases[i].name);
		bench_report(name, &native[i]);
		snprintf(name, sizeof(name), "%s_dune", cases[i].name);
		bench_report(name, &dune[i]);
		ktap_eq(calls, cases[i].exits * ROUNDS, "%s: one exit a call", cases[i].name);
	}
	return dune_test_done();
}
