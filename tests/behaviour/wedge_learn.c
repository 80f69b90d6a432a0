/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=120 */
/*
 * sthread_learn() tells which memory, descriptors and system calls a function uses, and which of
 * them its context lacks; with a context that has them it runs as an sthread.
 */
#define _GNU_SOURCE
#include "../wedge.h"

#include <fcntl.h>

WEDGE_BOUNDARY_BEGIN(state);
WEDGE_BOUNDARY(state) static int state;
WEDGE_BOUNDARY_END(state);

struct input {
	int fd;
	char *from;		/* another tag */
	char buf[100];
};

static void *work(void *arg)
{
	struct input *in = arg;

	state += in->from[5000];
	return (void *)read(in->fd, in->buf, 3);
}

static char text[4096];

static bool has(const char *line)
{
	const char *at = strstr(text, line);

	return at && (at == text || at[-1] == '\n');
}

static int learn(const struct sthread_sc *sc, struct input *in)
{
	int out = open("/tmp", O_TMPFILE | O_RDWR, 0600), ret;

	memset(text, 0, sizeof(text));
	ret = sthread_learn(sc, work, in, out, &wedge_last);
	if (pread(out, text, sizeof(text) - 1, 0) < 0)
		ktap_bail("pread: %s", strerror(errno));
	close(out);
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		ktap_note("%.*s", (int)(end - line), line);
	return ret;
}

int main(void)
{
	struct wedge_tag *one, *two;
	struct sthread_sc sc;
	struct input *in;
	char line[100];

	ktap_plan(DUNE_TEST_ENTER + 12 + DUNE_TEST_LEAVE);
	dune_test_enter();
	wedge_must(wedge_init(), "wedge_init");
	one = wedge_tag(1);
	two = wedge_tag(1);
	in = smalloc(sizeof(*in), one);
	in->from = smalloc(8000, two);
	in->from[5000] = 9;
	in->fd = open("/proc/self/comm", O_RDONLY);
	state = 1;
	sc_init(&sc);
	wedge_must(sc_mem_add(&sc, one, WEDGE_R), "sc_mem_add");
	wedge_must(sc_call_add(&sc, SYS_read), "sc_call_add");
	ktap_eq(wedge_run(&sc, work, in), -EFAULT, "it lacks something");
	ktap_eq(learn(&sc, in), 0, "which it is given while it is watched");
	ktap_ok(wedge_last.value == 3 && state == 10 && !memcmp(in->buf, "wed", 3),
		"so it does its work");
	snprintf(line, sizeof(line), "+ tag 0x%lx rw: 1 pages read, 1 written\n",
		 (unsigned long)tag_base(one));
	ktap_ok(has(line), "a tag that it may read and writes to");
	snprintf(line, sizeof(line), "+ tag 0x%lx r: 1 pages read, 0 written\n",
		 (unsigned long)tag_base(two));
	ktap_ok(has(line), "one that it does not have and reads");
	snprintf(line, sizeof(line), "+ 0x%lx rw: 1 pages of ", (unsigned long)&state & ~4095UL);
	ktap_ok(has(line), "a variable of the program");
	snprintf(line, sizeof(line), "+ descriptor %d r\n", in->fd);
	ktap_ok(has(line), "a descriptor");
	ktap_ok(has("  system call 0: 1 times\n"), "a system call that it has");

	ktap_eq(wedge_run(&sc, work, in), -EFAULT, "none of it stays");
	wedge_must(sc_fd_add(&sc, in->fd, WEDGE_R), "sc_fd_add");
	wedge_must(sc_mem_add(&sc, one, WEDGE_RW), "sc_mem_add");
	wedge_must(sc_mem_add(&sc, two, WEDGE_R), "sc_mem_add");
	wedge_must(sc_boundary_add(&sc, state, WEDGE_RW), "sc_boundary_add");
	ktap_eq(learn(&sc, in), 0, "with all of that");
	ktap_ok(!strchr(text, '+'), "nothing is missing");
	ktap_eq(wedge_run(&sc, work, in), 0, "and it is an sthread");
	return dune_test_done();
}
