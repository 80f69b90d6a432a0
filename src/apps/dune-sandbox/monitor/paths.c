// SPDX-License-Identifier: MIT
/*
 * From what ring 3 calls a file to the file's own path, and to an open file.
 *
 * A path is decided about when it is whole: absolute, without symbolic links, "." or "..".
 * Then the kernel is asked for exactly that, and follows no link on the way
 * (RESOLVE_NO_SYMLINKS), so that nothing which another thread changes meanwhile leads
 * elsewhere.  For the same reason a descriptor of ring 3's is never where a path begins:
 * what it stands for is read once.
 *
 * Where /proc is mounted is found when the sandbox starts; ring 3 cannot mount it anywhere.
 */
#include <fcntl.h>
#include <linux/openat2.h>

#include "monitor.h"

#define MAX_LINKS	40	/* as Linux */
#define MAX_TRIES	8

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

/* What follows @prefix in @path; NULL: it begins with something else. */
static const char *behind(const char *path, const char *prefix)
{
	for (; *prefix; prefix++, path++)
		if (*path != *prefix)
			return NULL;
	return path;
}

static bool is_number(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] < '0' || s[i] > '9')
			return false;
	return n;
}

/* Behind the name of a mount of procfs: "" or "/..."; NULL: not there. */
static const char *inside_proc(const char *path)
{
	for (unsigned int i = 0; i < setup.nr_procs; i++) {
		const char *in = behind(path, setup.procs[i]);

		if (in && (!*in || *in == '/'))
			return in;
	}
	return NULL;
}

static const char *last_part(const char *path)
{
	const char *last = path;

	for (; *path; path++)
		if (*path == '/')
			last = path + 1;
	return last;
}

/* What a program may write there: about itself, and harmless. */
static bool may_write_proc(const char *name)
{
	static const char *const names[] = {
		"comm", "oom_score_adj", "oom_adj", "coredump_filter", "timerslack_ns",
	};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (same(name, names[i]))
			return true;
	return false;
}

/* A whole path: does it name what reaches around the monitor? */
long path_check(const char *path, uint64_t flags)
{
	const char *in = inside_proc(path), *name;
	static const char *const memory[] = { "/dev/mem", "/dev/kmem", "/dev/port", "/dev/dune" };

	for (unsigned int i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
		if (same(path, memory[i]))
			goto refuse;
	if (!in)
		return 0;
	name = last_part(path);
	if (same(name, "mem") || same(name, "kcore"))
		goto refuse;
	if ((flags & O_ACCMODE) == O_RDONLY || flags & O_PATH)
		return 0;
	if (may_write_proc(name))
		return 0;
refuse:
	report("opening %s was refused", path);
	return -EACCES;
}

/*
 * Does @path lead where it says, unless there is a link in it?  Of /proc it matters what a link
 * there stands for.
 */
bool path_is_plain(const char *path)
{
	if (*path != '/' || inside_proc(path))
		return false;
	for (; *path; path++)
		if (*path == '/' && (path[1] == '/' || path[1] == '.'))
			return false;
	return true;
}

/* ---- whole paths --------------------------------------------------------------- */

static void put_link(char *to, const char *head, uint32_t n)
{
	char digits[12];
	int i = 0;

	while (*head)
		*to++ = *head++;
	do {
		digits[i++] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	while (i)
		*to++ = digits[--i];
	*to = '\0';
}

/* The path of what @dir stands for. */
static long read_dir(char out[PATH_SIZE], int dir)
{
	char link[40];
	long n;

	if (dir == AT_FDCWD)
		n = sys2(SYS_getcwd, out, PATH_SIZE);
	else {
		put_link(link, "/proc/self/fd/", (uint32_t)dir);
		n = sys4(SYS_readlinkat, AT_FDCWD, link, out, PATH_SIZE - 1);
		if (n == -ENOENT)
			n = -EBADF;
		if (!failed(n))
			out[n] = '\0';
	}
	if (failed(n))
		return n;
	return *out == '/' ? 0 : -ENOTDIR;
}

struct walk {
	char *out;		/* whole, as far as it goes; "" is the root */
	size_t len;
	char rest[2 * PATH_SIZE];	/* what is still to be walked */
	int links;
};

/* Put a link's text before what is left. */
static long follow(struct walk *w, const char *link, size_t n, const char *rest)
{
	size_t left = length(rest);

	if (++w->links > MAX_LINKS)
		return -ELOOP;
	if (n + left + 2 > sizeof(w->rest))
		return -ENAMETOOLONG;
	for (size_t i = left + 1; i-- > 0; )	/* upwards: they may overlap */
		w->rest[sizeof(w->rest) - left - 1 + i] = rest[i];
	for (size_t i = 0; i < n; i++)
		w->rest[i] = link[i];
	w->rest[n] = '/';
	for (size_t i = 0; i <= left; i++)
		w->rest[n + 1 + i] = w->rest[sizeof(w->rest) - left - 1 + i];
	if (!left)
		w->rest[n] = '\0';
	if (*link == '/')
		w->len = 0;
	return 0;
}

static void up(struct walk *w)
{
	while (w->len && w->out[w->len - 1] != '/')
		w->len--;
	if (w->len)
		w->len--;
}

/*
 * /proc/PID/fd/N and the like name what no path leads to (pipes, sockets).  Those of the
 * process itself are what it has open anyway.
 */
static bool is_own_magic(const struct walk *w, const char *name, size_t n)
{
	const char *in;
	char own[48];

	w->out[w->len] = '\0';
	in = inside_proc(w->out);
	if (!in || !is_number(name, n))
		return false;
	put_link(own, "/", (uint32_t)sys0(SYS_getpid));
	for (const char *s = "/fd"; *s; s++) {
		size_t at = length(own);

		own[at] = *s;
		own[at + 1] = '\0';
	}
	return same(in, own);
}

/*
 * 0: w->out is whole.  1: it is whole but for its last part, a link to a descriptor of
 * the process's own.
 */
static long walk(struct walk *w, bool follow_last)
{
	char link[PATH_SIZE], *name = w->rest;

	while (*name) {
		char *end = name;
		size_t n;
		long got, ret;
		bool last;

		while (*end && *end != '/')
			end++;
		n = (size_t)(end - name);
		while (*end == '/')
			end++;
		last = !*end;
		if (!n || (n == 1 && name[0] == '.')) {
			name = end;
			continue;
		}
		if (n == 2 && name[0] == '.' && name[1] == '.') {
			up(w);
			name = end;
			continue;
		}
		if (w->len + n + 2 > PATH_SIZE)
			return -ENAMETOOLONG;
		if (last && follow_last && is_own_magic(w, name, n)) {
			w->out[w->len++] = '/';
			for (size_t i = 0; i < n; i++)
				w->out[w->len++] = name[i];
			w->out[w->len] = '\0';
			return 1;
		}
		w->out[w->len] = '/';
		for (size_t i = 0; i < n; i++)
			w->out[w->len + 1 + i] = name[i];
		w->out[w->len + 1 + n] = '\0';
		got = !last || follow_last || end[-1] == '/' ?
		      sys4(SYS_readlinkat, AT_FDCWD, w->out, link, sizeof(link)) : -EINVAL;
		if (got == (long)sizeof(link))
			return -ENAMETOOLONG;
		if (got > 0) {
			ret = follow(w, link, (size_t)got, end);
			if (ret)
				return ret;
			name = w->rest;
			continue;
		}
		if (got != -EINVAL && !(last && got == -ENOENT))
			return got;
		w->len += n + 1;
		name = end;
	}
	if (!w->len)
		w->out[w->len++] = '/';
	w->out[w->len] = '\0';
	return 0;
}

/*
 * What @path means from @dir, whole.  1: a descriptor of the process's own, by its name
 * in /proc.
 */
long path_resolve(char out[PATH_SIZE], int dir, const char *path, const struct open_how *how)
{
	bool follow_last = !(how->flags & O_NOFOLLOW) &&
			   (how->flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
	struct walk w;	/* too large to be cleared */
	size_t n = 0, len = length(path);
	long ret;

	if (!*path)
		return -ENOENT;
	w.out = out;
	w.len = 0;
	w.links = 0;
	if (*path != '/') {
		ret = read_dir(w.rest, dir);
		if (ret)
			return ret;
		n = length(w.rest);
		w.rest[n++] = '/';
	}
	if (n + len >= sizeof(w.rest))
		return -ENAMETOOLONG;
	for (size_t i = 0; i <= len; i++)
		w.rest[n + i] = path[i];
	if (how->resolve & RESOLVE_NO_SYMLINKS)
		follow_last = false;
	ret = walk(&w, follow_last);
	if (ret == 0 && path[len - 1] == '/' && w.len + 1 < PATH_SIZE && w.len > 1) {
		out[w.len] = '/';
		out[w.len + 1] = '\0';
	}
	return ret;
}

/* @path is whole. */
long path_open(const char *path, const struct open_how *how)
{
	struct open_how asked = *how;
	struct call call = { SYS_openat2, { (uint64_t)AT_FDCWD, (uint64_t)path,
			     (uint64_t)&asked, sizeof(asked), 0, 0 } };
	long ret = path_check(path, how->flags);

	if (ret)
		return ret;
	asked.resolve |= RESOLVE_NO_SYMLINKS;
	for (int i = 0; i < MAX_TRIES; i++) {
		ret = make_call(&call);
		if (ret != -EAGAIN || how->flags & O_NONBLOCK)
			break;
	}
	return ret;
}

/*
 * Once more what a descriptor of the process's own stands for, by its name in /proc; it is
 * looked at while ring 3 cannot exchange it.
 */
long path_reopen(const char *path, const struct open_how *how)
{
	struct open_how asked = *how;
	char link[32], whole[PATH_SIZE];
	struct call call = { SYS_openat2, { (uint64_t)AT_FDCWD, (uint64_t)link,
			     (uint64_t)&asked, sizeof(asked), 0, 0 } };
	const char *name = last_part(path);
	uint64_t fd = 0;
	long own, ret = 0;

	while (*name)
		fd = fd * 10 + (uint64_t)(*name++ - '0');
	if (fd > INT32_MAX || is_own_fd(fd))
		return -ENOENT;
	own = hold_open((int)fd, whole);
	if (failed(own))
		return own == -EBADF ? -ENOENT : own;
	if (*whole == '/')
		ret = path_check(whole, how->flags);
	hold_link(link, own);
	if (!ret)
		ret = make_call(&call);
	release(own);
	return ret;
}
