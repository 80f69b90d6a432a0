// SPDX-License-Identifier: MIT
/*
 * Reading /proc/self/maps without stdio and malloc(), so that reading it maps
 * nothing, except for a name that is longer than PATH_ROOM.  dune-run puts this into
 * programs where there is no libc: it needs but a few calls.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"

#define PATH_ROOM	4096

/* The fields of a line: "begin-end rwxp offset device inode   path". */
enum { BEGIN, END, RIGHTS, OFFSET, DEVICE, INODE, GAP, PATH };

struct parser {
	uint64_t num[4];	/* by field; of RIGHTS a bit for each letter that is set */
	int field;
	unsigned int letter;	/* in RIGHTS */
	size_t len;		/* of the path */
	size_t room;
	char *path;		/* room + 1 bytes */
	char *mapped;		/* the same, if it did not fit into the first ones */
};

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static int grow(struct parser *p)
{
	size_t size = p->room + 1;
	void *new = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (new == MAP_FAILED)
		return -errno;
	__dune_copy(new, p->path, p->len);
	if (p->mapped)
		munmap(p->mapped, size);
	p->path = p->mapped = new;
	p->room = 2 * size - 1;
	return 0;
}

static bool begins(const char *s, const char *with)
{
	while (*with && *s == *with) {
		s++;
		with++;
	}
	return !*with;
}

static int type_of(const char *path)
{
	if (!*path || begins(path, "[anon"))
		return PROCMAP_TYPE_ANONYMOUS;
	if (*path != '[')
		return PROCMAP_TYPE_FILE;
	if (begins(path, "[heap]"))
		return PROCMAP_TYPE_HEAP;
	if (begins(path, "[stack"))
		return PROCMAP_TYPE_STACK;
	if (begins(path, "[vsyscall]"))
		return PROCMAP_TYPE_VSYSCALL;
	if (begins(path, "[vdso]"))
		return PROCMAP_TYPE_VDSO;
	if (begins(path, "[vvar"))
		return PROCMAP_TYPE_VVAR;
	return PROCMAP_TYPE_UNKNOWN;
}

static int line_done(struct parser *p, __dune_map_cb cb, void *arg)
{
	struct dune_procmap_entry e = {
		.begin = p->num[BEGIN], .end = p->num[END], .offset = p->num[OFFSET],
		.r = p->num[RIGHTS] & 1, .w = p->num[RIGHTS] & 2, .x = p->num[RIGHTS] & 4,
		.p = p->num[RIGHTS] & 8, .path = p->path,
	};

	p->path[p->len] = '\0';
	e.type = type_of(p->path);
	__dune_clear(p->num, sizeof(p->num));
	p->field = BEGIN;
	p->letter = 0;
	p->len = 0;
	return cb(&e, arg);
}

static int feed(struct parser *p, char c, __dune_map_cb cb, void *arg)
{
	int digit, ret;

	if (c == '\n')
		return line_done(p, cb, arg);
	if (p->field == GAP && c != ' ')
		p->field = PATH;
	if (p->field == PATH) {
		ret = p->len < p->room ? 0 : grow(p);
		if (!ret)
			p->path[p->len++] = c;
		return ret;
	}
	if (p->field == GAP)
		return 0;
	if (c == ' ' || (p->field == BEGIN && c == '-')) {
		p->field++;
	} else if (p->field == RIGHTS) {
		p->num[RIGHTS] |= (uint64_t)(c != '-' && c != 's') << p->letter++ % 4;
	} else if (p->field <= OFFSET) {
		digit = hex_digit(c);
		p->num[p->field] = p->num[p->field] << 4 | (digit < 0 ? 0 : (unsigned int)digit);
	}
	return 0;
}

/* Calls @cb for each mapping; stops at the first that returns not 0. */
int __dune_for_each_map(__dune_map_cb cb, void *arg)
{
	char buf[1024], path[PATH_ROOM + 1];
	struct parser p = { .path = path, .room = PATH_ROOM };
	ssize_t n;
	int fd, ret = 0;

	fd = (int)__dune_make_fd(SYS_openat, AT_FDCWD, (long)"/proc/self/maps",
				 O_RDONLY | O_CLOEXEC, 0);
	/* /proc says so, too, of what it had no memory for. */
	if (fd == -ENOENT && !__dune_syscall4(SYS_faccessat, AT_FDCWD, "/proc/self", F_OK, 0))
		return -ENOMEM;
	if (fd < 0)
		return fd;
	while (!ret && (n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0) {
			if (errno == EINTR)
				continue;
			ret = -errno;
			break;
		}
		for (ssize_t i = 0; i < n && !ret; i++)
			ret = feed(&p, buf[i], cb, arg);
	}
	close(fd);
	if (p.mapped)
		munmap(p.mapped, p.room + 1);
	return ret;
}
