/* SPDX-License-Identifier: MIT */
/*
 * KTAP version 1 on standard output, for programs that run in a guest.
 *
 *	ktap_plan(2);
 *	ktap_ok(n == 4, "four pages were read");
 *	ktap_eq(errno, ENOENT, "open of a missing file");
 *	return ktap_done();
 *
 * Each line is one write(2), so that nothing is lost when the program dies in
 * the next instruction, and so that stdio's buffers are not copied by fork().
 * Nothing here allocates or touches the FPU: the calls work in Dune mode, in
 * handlers, and after a failed allocation.  Only one thread may report.
 *
 * A description must not hold '#', which starts a directive.
 */
#ifndef TESTS_KTAP_H
#define TESTS_KTAP_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KTAP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args), unused))

static struct {
	unsigned int planned, run, failed;
} ktap;

static void ktap_write(const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			_exit(2);	/* nobody listens: do not pass in silence */
		buf += n;
		len -= (size_t)n;
	}
}

/* One line: prefix, text, newline.  Longer lines are cut at 1,000 bytes. */
static void ktap_vline(const char *prefix, const char *fmt, va_list ap)
{
	char buf[1024];
	size_t used = (size_t)snprintf(buf, 128, "%s", prefix);
	int n = vsnprintf(buf + used, 1000 - used, fmt, ap);

	if (n > 0)
		used += (size_t)n < 1000 - used ? (size_t)n : 999 - used;
	buf[used++] = '\n';
	ktap_write(buf, used);
}

/* A diagnostic line: says more about the result line that follows. */
KTAP_PRINTF(1, 2) static void ktap_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	ktap_vline("# ", fmt, ap);
	va_end(ap);
}

/* How many result lines will come.  First call of a program. */
__attribute__((unused)) static void ktap_plan(unsigned int n)
{
	char buf[64];

	ktap.planned = n;
	ktap_write(buf, (size_t)snprintf(buf, sizeof(buf), "KTAP version 1\n1..%u\n", n));
}

/* One result.  Returns @cond, so that a test can stop where going on is senseless. */
KTAP_PRINTF(2, 3) static bool ktap_ok(bool cond, const char *fmt, ...)
{
	char prefix[32];
	va_list ap;

	ktap.run++;
	if (!cond)
		ktap.failed++;
	snprintf(prefix, sizeof(prefix), "%sok %u - ", cond ? "" : "not ", ktap.run);
	va_start(ap, fmt);
	ktap_vline(prefix, fmt, ap);
	va_end(ap);
	return cond;
}

/* As ktap_ok(), and says both values when they differ. */
#define ktap_eq(got, want, ...)						\
({									\
	unsigned long long ktap_got = (unsigned long long)(got);	\
	unsigned long long ktap_want = (unsigned long long)(want);	\
									\
	if (ktap_got != ktap_want)					\
		ktap_note("%s: got %lld (0x%llx), want %lld (0x%llx)",	\
			  #got, (long long)ktap_got, ktap_got,		\
			  (long long)ktap_want, ktap_want);		\
	ktap_ok(ktap_got == ktap_want, __VA_ARGS__);			\
})

/* A result that cannot be had here; @why goes into the report. */
__attribute__((unused)) static void ktap_skip(const char *what, const char *why)
{
	char buf[512];

	ktap.run++;
	ktap_write(buf, (size_t)snprintf(buf, sizeof(buf), "ok %u - %.200s # SKIP %.200s\n",
					 ktap.run, what, why));
}

/* One number without a spread.  Units: ticks, exits, bytes, count, ns. */
__attribute__((unused)) static void ktap_metric(const char *name, long long value,
						const char *unit)
{
	ktap_note("metric: %s=%lld %s", name, value, unit);
}

/* The median of @n samples with their spread. */
__attribute__((unused)) static void ktap_metric_spread(const char *name, long long value,
						       const char *unit, unsigned int n,
						       long long min, long long max)
{
	ktap_note("metric: %s=%lld %s n=%u min=%lld max=%lld", name, value, unit, n, min, max);
}

/* Something about this run that is not a measurement. */
KTAP_PRINTF(2, 3) static void ktap_fact(const char *key, const char *fmt, ...)
{
	char prefix[128];
	va_list ap;

	snprintf(prefix, sizeof(prefix), "# fact: %s=", key);
	va_start(ap, fmt);
	ktap_vline(prefix, fmt, ap);
	va_end(ap);
}

/* Gives up: the rest of the plan counts as failed. */
__attribute__((noreturn)) KTAP_PRINTF(1, 2) static void ktap_bail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	ktap_vline("Bail out! ", fmt, ap);
	va_end(ap);
	_exit(1);
}

/* The exit status: 0 if the whole plan ran and all of it was ok. */
__attribute__((unused)) static int ktap_done(void)
{
	if (ktap.run != ktap.planned)
		ktap_note("planned %u results, gave %u", ktap.planned, ktap.run);
	return ktap.failed == 0 && ktap.run == ktap.planned ? 0 : 1;
}

#endif /* TESTS_KTAP_H */
