// SPDX-License-Identifier: MIT
/*
 * Files by name, under a policy that has rules for files.
 *
 * The kernel follows links in most of these calls, so it is not given a name to walk but
 * the file itself, or the folder and the last part of the name.  For that the monitor
 * opens it (O_PATH) by its whole path, and looks once more what it has when no thread of
 * ring 3 can exchange the descriptor any more.
 */
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>

#include "monitor.h"

static bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

void hold_link(char link[32], long fd)
{
	static const char head[] = "/proc/self/fd/";
	char digits[12];
	int i = 0;
	char *to = link;

	for (const char *s = head; *s; s++)
		*to++ = *s;
	do {
		digits[i++] = (char)('0' + fd % 10);
		fd /= 10;
	} while (fd);
	while (i)
		*to++ = digits[--i];
	*to = '\0';
}

/* The file at @path, which is whole.  A descriptor that ring 3 cannot name, or -errno. */
long hold(const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	char link[32], now[PATH_SIZE];
	long fd, n;

	/* Until it is marked ring 3 can name it. */
	n = flags & O_PATH ? 0 : path_check(path, flags);
	if (n)
		return n;
	fd = sys4(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	if (failed(fd))
		return fd;
	if (!mark_held(fd)) {
		close_unheld(fd);
		return -EMFILE;
	}
	hold_link(link, fd);
	n = sys4(SYS_readlinkat, AT_FDCWD, link, now, sizeof(now) - 1);
	if (!failed(n))
		now[n] = '\0';
	if (!failed(n) && same(now, path))
		return fd;
	release(fd);
	return failed(n) ? n : -ENOENT;
}

/* Once more what ring 3's @fd stands for, and the path of it; as hold(). */
long hold_open(int fd, char path[PATH_SIZE])
{
	long own = duplicate_held(fd), n;
	char link[32];

	if (failed(own))
		return own;
	hold_link(link, own);
	n = sys4(SYS_readlinkat, AT_FDCWD, link, path, PATH_SIZE - 1);
	if (failed(n)) {
		release(own);
		return n;
	}
	path[n] = '\0';
	return own;
}

void release(long fd)
{
	sys1(SYS_close, fd);
	unmark_held(fd);
}

/* ---- calls ------------------------------------------------------------------------ */

/* How a call names its file, and what it does to it. */
struct shape {
	int8_t dir, path;	/* arguments; -1: the current folder */
	int8_t flags;		/* the argument with AT_SYMLINK_NOFOLLOW; -1: none */
	bool nofollow;
	bool parent;		/* the call is about the name, not about what it names */
	uint8_t rights;
};

static bool shape_of(const struct call *call, struct shape *s)
{
	*s = (struct shape){ -1, 0, -1, false, false, FILE_READ };
	switch (call->nr) {
	case SYS_lstat:
	case SYS_readlink:
		s->nofollow = true;
		return true;
	case SYS_stat:
	case SYS_access:
	case SYS_statfs:
	case SYS_chdir:
		return true;
	case SYS_newfstatat:
	case SYS_faccessat2:
		s->flags = 3;
		s->dir = 0;
		s->path = 1;
		return true;
	case SYS_statx:
		s->flags = 2;
		s->dir = 0;
		s->path = 1;
		return true;
	case SYS_readlinkat:
		s->nofollow = true;
		/* fallthrough */
	case SYS_faccessat:
		s->dir = 0;
		s->path = 1;
		return true;
	case SYS_truncate:
	case SYS_chmod:
	case SYS_chown:
	case SYS_utime:
	case SYS_utimes:
		s->rights = FILE_WRITE;
		return true;
	case SYS_fchmodat:
	case SYS_fchownat:
	case SYS_utimensat:
		s->rights = FILE_WRITE;
		s->dir = 0;
		s->path = 1;
		s->flags = call->nr == SYS_fchownat ? 4 : call->nr == SYS_utimensat ? 3 : -1;
		return true;
	case SYS_mkdir:
	case SYS_rmdir:
	case SYS_unlink:
	case SYS_mknod:
		s->rights = FILE_WRITE;
		s->parent = true;
		return true;
	case SYS_mkdirat:
	case SYS_unlinkat:
	case SYS_mknodat:
		s->rights = FILE_WRITE;
		s->parent = true;
		s->dir = 0;
		s->path = 1;
		return true;
	case SYS_symlink:
		s->rights = FILE_WRITE;
		s->parent = true;
		s->path = 1;
		return true;
	case SYS_symlinkat:
		s->rights = FILE_WRITE;
		s->parent = true;
		s->dir = 1;
		s->path = 2;
		return true;
	default:
		return false;
	}
}

/* Cut "/a/b" into "/a" and "b"; the name, or NULL: it is the root. */
char *cut(char *path)
{
	char *slash = NULL, *end = path;

	for (; *end; end++)
		if (*end == '/' && end[1])
			slash = end;
	if (!slash)
		return NULL;
	if (end[-1] == '/')
		end[-1] = '\0';
	*slash = '\0';
	return slash + 1;
}

/* Which files may be looked at is a right of its own only for what is in them. */
static long on_name(struct call *call, const struct shape *s, char *full)
{
	char *name = cut(full);
	struct call at = *call;
	long dir, ret;

	if (!name)
		return -EEXIST;
	dir = hold(*full ? full : "/", O_PATH | O_DIRECTORY);
	if (failed(dir))
		return dir;
	switch (call->nr) {
	case SYS_mkdir:
		at = (struct call){ SYS_mkdirat, { (uint64_t)dir, (uint64_t)name, call->arg[1] } };
		break;
	case SYS_rmdir:
		at = (struct call){ SYS_unlinkat, { (uint64_t)dir, (uint64_t)name, AT_REMOVEDIR } };
		break;
	case SYS_unlink:
		at = (struct call){ SYS_unlinkat, { (uint64_t)dir, (uint64_t)name, 0 } };
		break;
	case SYS_mknod:
		at = (struct call){ SYS_mknodat, { (uint64_t)dir, (uint64_t)name, call->arg[1],
						   call->arg[2] } };
		break;
	case SYS_symlink:
		at = (struct call){ SYS_symlinkat, { call->arg[0], (uint64_t)dir,
						     (uint64_t)name } };
		break;
	default:
		at.arg[(int)s->dir] = (uint64_t)dir;
		at.arg[(int)s->path] = (uint64_t)name;
	}
	ret = make_call(&at);
	release(dir);
	return ret;
}

static long on_file(struct call *call, const struct shape *s, const char *full, bool nofollow)
{
	static const char empty[] = "";
	char link[32];
	long fd = hold(full, O_PATH | (nofollow ? O_NOFOLLOW : 0)), ret;
	struct call at = *call;

	if (failed(fd))
		return fd;
	hold_link(link, fd);
	switch (call->nr) {
	case SYS_stat:
	case SYS_lstat:
		at = (struct call){ SYS_newfstatat, { (uint64_t)fd, (uint64_t)empty, call->arg[1],
						      AT_EMPTY_PATH } };
		break;
	case SYS_readlink:
		at = (struct call){ SYS_readlinkat, { (uint64_t)fd, (uint64_t)empty, call->arg[1],
						      call->arg[2] } };
		break;
	case SYS_readlinkat:
	case SYS_newfstatat:
	case SYS_statx:
		at.arg[0] = (uint64_t)fd;
		at.arg[1] = (uint64_t)empty;
		if (s->flags >= 0)
			at.arg[(int)s->flags] = (call->arg[(int)s->flags] &
						 ~(uint64_t)AT_SYMLINK_NOFOLLOW) | AT_EMPTY_PATH;
		break;
	case SYS_fchownat:
	case SYS_utimensat:
		at.arg[0] = (uint64_t)fd;
		at.arg[1] = (uint64_t)empty;
		at.arg[(int)s->flags] = AT_EMPTY_PATH;
		break;
	default:	/* by the link in /proc: the file itself, whatever its name is now */
		at.arg[(int)s->path] = (uint64_t)link;
		if (s->dir >= 0)
			at.arg[(int)s->dir] = (uint64_t)AT_FDCWD;
		if (s->flags >= 0)
			at.arg[(int)s->flags] &= ~(uint64_t)AT_SYMLINK_NOFOLLOW;
	}
	ret = make_call(&at);
	release(fd);
	return ret;
}

/*
 * The attributes of what is open: Linux asks for no right to write of the descriptor.
 * Pipes and sockets have no path, and are nobody else's.
 */
static long on_open(struct call *call, uint8_t rights)
{
	char path[PATH_SIZE];
	long own, ret = 0;

	if (rights == FILE_READ)
		return make_call(call);
	if ((int)call->arg[0] == AT_FDCWD)
		return -EACCES;
	own = hold_open((int)call->arg[0], path);
	if (failed(own))
		return own;
	if (*path == '/')
		ret = policy_file(path, rights);
	call->arg[0] = (uint64_t)own;
	if (!ret)
		ret = make_call(call);
	release(own);
	return ret;
}

/* A descriptor instead of a name (AT_EMPTY_PATH, or no name at all): it is open already. */
static bool is_descriptor(const struct call *call, const struct shape *s, const char *path)
{
	if (call->nr == SYS_utimensat && !call->arg[1])
		return true;
	return !*path && s->flags >= 0 && call->arg[(int)s->flags] & AT_EMPTY_PATH;
}

/* rename, link: two names. */
static long on_two(struct call *call)
{
	bool at = call->nr != SYS_rename && call->nr != SYS_link;
	bool links = call->nr == SYS_link || call->nr == SYS_linkat;
	struct open_how how = { .flags = O_NOFOLLOW };
	char path[PATH_SIZE], full[2][PATH_SIZE], *name[2];
	long dir[2] = { -1, -1 }, ret = 0;

	for (int i = 0; i < 2 && !ret; i++) {
		ret = copy_path(path, call->arg[at ? 2 * i + 1 : i]);
		if (!ret)
			ret = path_resolve(full[i], at ? (int)call->arg[2 * i] : AT_FDCWD, path,
					   &how);
		if (!ret)
			ret = policy_file(full[i], FILE_WRITE | (links && !i ? FILE_READ : 0));
	}
	if (!ret && links && call->nr == SYS_linkat && call->arg[4]) {
		report("linkat with flags was refused");
		ret = -EPERM;
	}
	for (int i = 0; i < 2 && !ret; i++) {
		name[i] = cut(full[i]);
		if (!name[i])
			ret = -EBUSY;
		else
			dir[i] = hold(*full[i] ? full[i] : "/", O_PATH | O_DIRECTORY);
		if (!ret && failed(dir[i]))
			ret = dir[i];
	}
	if (!ret) {
		struct call both = { links ? SYS_linkat : SYS_renameat2, {
			(uint64_t)dir[0], (uint64_t)name[0], (uint64_t)dir[1], (uint64_t)name[1],
			call->nr == SYS_renameat2 ? call->arg[4] : 0 } };

		ret = make_call(&both);
	}
	for (int i = 0; i < 2; i++)
		if (dir[i] >= 0)
			release(dir[i]);
	return ret;
}

long path_under_rules(struct call *call)
{
	struct open_how how = { 0 };
	char path[PATH_SIZE], full[PATH_SIZE];
	struct shape s;
	bool nofollow;
	long ret;

	switch (call->nr) {
	case SYS_rename:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_link:
	case SYS_linkat:
		return on_two(call);
	case SYS_fchmod:
	case SYS_fchown:
	case SYS_fsetxattr:
	case SYS_fremovexattr:
		return on_open(call, FILE_WRITE);
	}
	if (!shape_of(call, &s)) {
		report("%s was refused: rules for files do not cover it",
		       call_specs[call->nr].name);
		return -EOPNOTSUPP;
	}
	path[0] = '\0';
	ret = call->arg[(int)s.path] ? copy_path(path, call->arg[(int)s.path]) : -EFAULT;
	if (is_descriptor(call, &s, path) && (ret == 0 || call->nr == SYS_utimensat))
		return on_open(call, s.rights);
	if (ret)
		return ret;
	nofollow = s.nofollow || s.parent ||
		   (s.flags >= 0 && call->arg[(int)s.flags] & AT_SYMLINK_NOFOLLOW);
	how.flags = nofollow ? O_NOFOLLOW : 0;
	ret = path_resolve(full, s.dir >= 0 ? (int)call->arg[(int)s.dir] : AT_FDCWD, path, &how);
	if (ret == 1)		/* a descriptor of ring 3's own, by its name in /proc */
		return s.rights == FILE_READ ? make_call(call) : -EACCES;
	if (!ret)
		ret = policy_file(full, s.rights);
	if (ret)
		return ret;
	return s.parent ? on_name(call, &s, full) : on_file(call, &s, full, nofollow);
}
