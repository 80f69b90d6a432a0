// SPDX-License-Identifier: MIT
/*
 * Reading /proc/self/maps without stdio, so that reading it maps nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "local.h"

typedef int (*map_cb)(uint64_t begin, uint64_t end, bool vdso);

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/*
 * The state of a line "begin-end rwxp ... name": the two numbers count, and whether
 * the name begins with "[v": the pages of the vDSO ([vdso], [vvar], [vvar_vclock]).
 */
struct parser {
	uint64_t num[2];
	int field;		/* 0 begin, 1 end, 2 the rest of the line */
	char before;		/* the character before this one */
	bool path, vdso;
};

static int feed(struct parser *p, char c, map_cb cb)
{
	int digit = hex_digit(c), ret = 0;

	if (c == '\n') {
		ret = cb(p->num[0], p->num[1], p->vdso);
		*p = (struct parser){ };
	} else if (p->field < 2 && digit >= 0) {
		p->num[p->field] = p->num[p->field] << 4 | (unsigned int)digit;
	} else if (p->field < 2) {
		p->field++;
	} else {
		p->path |= c == '/';
		p->vdso |= !p->path && p->before == '[' && c == 'v';
	}
	p->before = c;
	return ret;
}

/* Calls @cb for each mapping; stops at the first that returns not 0. */
int __dune_for_each_map(map_cb cb)
{
	struct parser p = { };
	char buf[1024];
	ssize_t n;
	int fd, ret = 0;

	fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while (!ret && (n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0) {
			if (errno == EINTR)
				continue;
			ret = -errno;
			break;
		}
		for (ssize_t i = 0; i < n && !ret; i++)
			ret = feed(&p, buf[i], cb);
	}
	close(fd);
	return ret;
}
