// SPDX-License-Identifier: MIT
/*
 * What the monitor has to say: one line per write, after "dune-sandbox: ".
 */
#include <stdarg.h>

#include "monitor.h"

struct line {
	char text[512];
	size_t len;
};

static void put(struct line *l, char c)
{
	if (l->len < sizeof(l->text) - 1)
		l->text[l->len++] = c;
}

/* What comes from ring 3 must not pretend to be a line of ours. */
static void put_text(struct line *l, const char *s, bool trusted)
{
	for (; *s; s++)
		put(l, trusted || (*s >= ' ' && *s != 127) ? *s : '?');
}

static void put_number(struct line *l, uint64_t n, unsigned int base)
{
	char digits[24];
	int i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	put_text(l, digits + i, true);
}

static void format(struct line *l, const char *fmt, va_list ap)
{
	for (; *fmt; fmt++) {
		bool is_long = false;

		if (*fmt != '%') {
			put(l, *fmt);
			continue;
		}
		if (*++fmt == 'l') {
			is_long = true;
			fmt++;
		}
		if (*fmt == 's') {
			put_text(l, va_arg(ap, const char *), false);
		} else {
			uint64_t n = is_long ? va_arg(ap, uint64_t) : va_arg(ap, uint32_t);
			bool negative = *fmt == 'd' && (is_long ? (int64_t)n < 0 : (int32_t)n < 0);

			if (negative) {
				put(l, '-');
				n = is_long ? -n : (uint32_t)-n;
			}
			put_number(l, n, *fmt == 'x' ? 16 : 10);
		}
	}
}

void report(const char *fmt, ...)
{
	struct line l = { .len = 0 };
	va_list ap;

	if (setup.report_fd < 0)
		return;
	put_text(&l, "dune-sandbox: ", true);
	va_start(ap, fmt);
	format(&l, fmt, ap);
	va_end(ap);
	put(&l, '\n');
	sys3(SYS_write, setup.report_fd, l.text, l.len);
}

/* The monitor itself cannot go on. */
void stop(const char *why)
{
	report("%s: the program was ended", why);
	sys1(SYS_exit_group, 125);
	__builtin_unreachable();
}
