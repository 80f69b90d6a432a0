// SPDX-License-Identifier: MIT
/*
 * One line to standard error from places where libc may not be called.
 *
 * Lean code, in and out of Dune mode.
 */
#include <sys/syscall.h>

#include "local.h"

struct line {
	char buf[512];
	size_t len;
};

static void put(struct line *l, char c)
{
	if (l->len < sizeof(l->buf) - 1)
		l->buf[l->len++] = c;
}

static void put_string(struct line *l, const char *s)
{
	while (*s)
		put(l, *s++);
}

static void put_number(struct line *l, unsigned long n, unsigned int base)
{
	char digits[24];
	int i = 0;

	do {
		digits[i++] = "0123456789abcdef"[n % base];
		n /= base;
	} while (n);
	while (i)
		put(l, digits[--i]);
}

static void put_signed(struct line *l, long n)
{
	if (n < 0)
		put(l, '-');
	put_number(l, n < 0 ? 0 - (unsigned long)n : (unsigned long)n, 10);
}

/* One conversion; returns the address of its last character. */
static const char *convert(struct line *l, const char *f, va_list *ap)
{
	bool is_long = *f == 'l';

	if (is_long)
		f++;
	switch (*f) {
	case 's':
		put_string(l, va_arg(*ap, const char *));
		break;
	case 'c':
		put(l, (char)va_arg(*ap, int));
		break;
	case 'd':
		put_signed(l, is_long ? va_arg(*ap, long) : va_arg(*ap, int));
		break;
	case 'u':
	case 'x':
		put_number(l, is_long ? va_arg(*ap, unsigned long) : va_arg(*ap, unsigned int),
			   *f == 'x' ? 16 : 10);
		break;
	case 'p':
		put_string(l, "0x");
		put_number(l, (unsigned long)va_arg(*ap, void *), 16);
		break;
	default:
		put(l, *f);
	}
	return f;
}

void __dune_message(const char *fmt, ...)
{
	struct line l;
	va_list ap;

	l.len = 0;
	put_string(&l, "dune: ");
	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		if (*fmt == '%')
			fmt = convert(&l, fmt + 1, &ap);
		else
			put(&l, *fmt);
	}
	va_end(ap);
	__dune_syscall3(SYS_write, 2, l.buf, l.len);
}
