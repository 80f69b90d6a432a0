// SPDX-License-Identifier: MIT
/*
 * What is the same in dune-run and in what it injects: --verify's line, and the
 * vector registers at a program's start.  No libc but syscall().
 */
#include <cpuid.h>
#include <libdune/dune.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dune-run.h"

void line_text(struct line *l, const char *s)
{
	while (*s && l->len < l->size)
		l->text[l->len++] = *s++;
}

void line_number(struct line *l, unsigned long n)
{
	char digits[24];
	int i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	line_text(l, digits + i);
}

/* By one write, since others may write as well. */
void line_write(const struct line *l)
{
	syscall(SYS_write, STDERR_FILENO, l->text, l->len);
}

/*
 * @exe: why /proc/self/exe is not the program's, or NULL.  dune-run under dune-run is
 * in Dune mode by the vCPU of the outer one.
 */
void say_where(const char *exe)
{
	const struct dune_stats *stats = dune_vcpu_stats();
	char text[500];
	struct line l = { text, sizeof(text), 0 };
	unsigned short cs;

	syscall(SYS_getpid);	/* for the counters: a forwarded call */
	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	line_text(&l, "dune-run: CPL ");
	line_number(&l, cs & 3);
	if (stats) {
		line_text(&l, ", a vCPU with ");
		line_number(&l, stats->entries);
		line_text(&l, " entries, exits: ");
		line_number(&l, stats->exit[DUNE_STAT_HYPERCALL].count);
		line_text(&l, " hypercalls, ");
		line_number(&l, stats->exit[DUNE_STAT_FAULT].count);
		line_text(&l, " page faults, ");
		line_number(&l, stats->exit[DUNE_STAT_INTERRUPT].count);
		line_text(&l, " interrupts");
	} else {
		line_text(&l, ", the vCPU of the dune-run around this one");
	}
	if (exe) {
		line_text(&l, "; /proc/self/exe is dune-run's: ");
		line_text(&l, exe);
	}
	line_text(&l, "\n");
	line_write(&l);
}

/*
 * The state components to reset: all but PKRU, whose value execve() gives is
 * not its initial one.
 */
uint64_t xsave_components(void)
{
	const uint32_t osxsave = 1U << 27;
	const uint64_t pkru = 1U << 9;
	uint32_t eax, ebx, ecx, edx;

	if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & osxsave))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return ((uint64_t)edx << 32 | eax) & ~pkru;
}
