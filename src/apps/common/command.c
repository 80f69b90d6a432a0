// SPDX-License-Identifier: MIT
/*
 * From a name to the files to map: PATH as in execvp(), #! lines and the
 * interpreter as in execve().
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "load.h"

#define SHELL		"/bin/sh"
#define DEFAULT_PATH	"/bin:/usr/bin"	/* confstr(_CS_PATH) */

static void put_argument(struct command *c, const char *arg)
{
	c->slots[--c->first] = arg;
}

static void reset(struct command *c)
{
	if (c->program.fd >= 0)
		close(c->program.fd);
	if (c->interp.fd >= 0)
		close(c->interp.fd);
	c->program.fd = c->interp.fd = -1;
	c->first = sizeof(c->slots) / sizeof(c->slots[0]);
	c->culprit = c->reason = c->script = NULL;
}

/* Open a file that may be executed: do_open_execat(). */
static int open_exec(struct command *c, const char *path)
{
	struct stat st;
	int fd;

	c->culprit = path;
	if (stat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS))
		return -errno;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == EACCES)
		c->reason = "it may be executed but not read, and the loader must read it";
	return fd < 0 ? -errno : fd;
}

/*
 * A program that would get other rights than its caller's: only the kernel
 * can give them.
 */
static bool gains_rights(int fd)
{
	struct statvfs fs;
	struct stat st;

	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		return false;
	if (fstat(fd, &st) || fstatvfs(fd, &fs) || fs.f_flag & ST_NOSUID)
		return false;
	if (st.st_mode & S_ISUID && st.st_uid != geteuid())
		return true;
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid())
		return true;
	return geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

static int open_interp(struct command *c)
{
	int ret, fd;

	ret = elf_interp_path(&c->program, c->interp_path);
	if (ret <= 0)
		return ret;
	fd = open_exec(c, c->interp_path);
	if (fd < 0)
		return fd;
	ret = elf_read(&c->interp, fd, c->interp_path, &c->reason);
	return ret == -ENOEXEC ? -ELIBBAD : ret;
}

static int open_program(struct command *c, int fd, const char *path)
{
	int ret = elf_read(&c->program, fd, path, &c->reason);

	if (ret)
		return ret;
	if (gains_rights(fd)) {
		c->reason = "it is set-user-ID, set-group-ID or has capabilities, which only the kernel can give: start it natively";
		return -EPERM;
	}
	return open_interp(c);
}

static int read_head(int fd, char head[HEAD_SIZE])
{
	ssize_t n;

	memset(head, 0, HEAD_SIZE);
	n = pread(fd, head, HEAD_SIZE, 0);
	return n < 0 ? -errno : 0;
}

/* What execve(@path) would start: exec_binprm(), load_script(). */
static int open_command(struct command *c, const char *path, const char *argv0)
{
	const char *file = path;

	c->path = path;
	c->argv0 = argv0;
	put_argument(c, argv0);
	for (int depth = 0; ; depth++) {
		char *head = c->heads[depth];
		struct script_line line;
		int ret, fd = depth || c->given < 0 ? open_exec(c, file) :
			      fcntl(c->given, F_DUPFD_CLOEXEC, 0);

		if (fd < 0)
			return fd;
		ret = depth > MAX_SCRIPTS ? -ELOOP : read_head(fd, head);
		if (!ret && elf_magic(head))
			return open_program(c, fd, file);
		close(fd);
		if (!ret)
			ret = script_parse(head, &line);
		if (ret)
			return ret;

		c->first++;
		put_argument(c, file);
		if (line.arg)
			put_argument(c, line.arg);
		put_argument(c, line.interp);
		file = line.interp;
	}
}

/*
 * What execvp() makes of one path: a file that is neither a program nor a
 * script is one for the shell.
 */
static int try_path(struct command *c, const char *path, const char *argv0, bool search)
{
	int ret;

	reset(c);
	ret = open_command(c, path, argv0);
	if (ret != -ENOEXEC || !search || elf_magic(c->heads[0]))
		return ret;
	reset(c);
	put_argument(c, path);
	c->script = path;
	return open_command(c, SHELL, SHELL);
}

static int search_path(struct command *c, const char *name, const char *argv0)
{
	const char *dir = getenv("PATH"), *end;
	bool denied = false;
	int ret = -ENOENT;

	for (dir = dir ? dir : DEFAULT_PATH; ; dir = end + 1) {
		size_t len;

		end = strchrnul(dir, ':');
		len = (size_t)(end - dir);
		if (len < PATH_MAX) {
			memcpy(c->found, dir, len);
			if (len)
				c->found[len++] = '/';
			strcpy(c->found + len, name);
			ret = try_path(c, c->found, argv0, true);
			if (ret == -EACCES)
				denied = true;
			else if (ret != -ENOENT && ret != -ESTALE && ret != -ENOTDIR &&
				 ret != -ENODEV && ret != -ETIMEDOUT)
				return ret;
		}
		if (*end)
			continue;
		if (denied) {
			c->culprit = name;
			return -EACCES;
		}
		return ret;
	}
}

/*
 * @search: as execvp(); otherwise @name is a path, as for execve().
 * @argv0: NULL: the name.  @given: a descriptor of the file that @name means, or -1.
 */
int command_find(struct command *c, const char *name, const char *argv0, bool search,
		 int given)
{
	int ret;

	c->program.fd = c->interp.fd = -1;
	c->given = given;
	if (!argv0)
		argv0 = name;
	if (!*name)
		ret = -ENOENT;
	else if (!search || strchr(name, '/'))
		return try_path(c, name, argv0, search);
	else if (strlen(name) > NAME_MAX)
		ret = -ENAMETOOLONG;
	else
		ret = search_path(c, name, argv0);

	/* Which folder of PATH was the last one helps nobody. */
	if (ret == -ENOENT && (!c->culprit || c->culprit == c->found))
		c->culprit = name;
	return ret;
}
