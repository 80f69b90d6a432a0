// SPDX-License-Identifier: MIT
/* What the programs that start others say when that fails, and the mapping of a program. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "starter.h"

void die(int status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	fprintf(stderr, "%s: ", own_name);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(status);
}

void print_and_exit(const char *text)
{
	if (fputs(text, stdout) < 0 || fflush(stdout))
		die(EXIT_OWN, "writing to standard output: %s", strerror(errno));
	exit(0);
}

void cannot_start(const struct command *c, const char *name, int err)
{
	const char *culprit = c->culprit && strcmp(c->culprit, name) ? c->culprit : NULL;

	die(err == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT, "%s: %s%s%s%s%s%s", name,
	    culprit ? culprit : "", culprit ? ": " : "", strerror(-err),
	    c->reason ? " (" : "", c->reason ? c->reason : "", c->reason ? ")" : "");
}

static void map_file(struct command *c, struct elf_file *e, bool has_interp, const char *name)
{
	int ret = place(e, has_interp);

	if (!ret)
		ret = map_image(e);
	if (!ret)
		return;
	c->culprit = e->path;
	c->reason = ret == -EEXIST ? address_taken :
				     "its segments cannot be mapped";
	cannot_start(c, name, ret);
}

void map_command(struct command *c, const char *name)
{
	bool has_interp = c->interp.fd >= 0;
	int ret;

	map_file(c, &c->program, has_interp, name);
	if (has_interp)
		map_file(c, &c->interp, false, name);
	ret = map_exec_stack(&c->program);
	if (ret)
		die(EXIT_CANNOT, "%s: an executable stack: %s", name, strerror(-ret));
}

/* What to do about a failed dune_init(). */
const char *advice(int err)
{
	static char versions[100];

	switch (-err) {
	case ENOENT:
		return "there is no /dev/dune\n  next: modprobe dune";
	case EACCES:
		return "/dev/dune may not be opened\n  next: ls -l /dev/dune, and run as its owner";
	case EBUSY:
		return "another hypervisor has the CPU\n  next: dmesg | grep dune: says what to unload";
	case ENODEV:
		return "this CPU cannot be used\n  next: dmesg | grep dune: says why";
	case EMFILE:
		return "no descriptor is free, and the limit is not to be raised\n  next: ulimit -Hn";
	case EPROTO:
		snprintf(versions, sizeof(versions), "dune.ko and %s are not of one version\n"
			 "  next: build both from one tree", own_name);
		return versions;
	default:
		return "see dmesg | grep dune";
	}
}
