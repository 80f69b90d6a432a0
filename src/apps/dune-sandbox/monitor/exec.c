// SPDX-License-Identifier: MIT
/*
 * exec: what ring 3 executes starts in a sandbox too.
 *
 * The kernel is given dune-sandbox, and dune-sandbox the program.  What the kernel would
 * refuse is looked for first, as far as it tells the caller something: behind the exec
 * nobody is there any more who could be told.
 */
#include <elf.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor.h"

#define MAX_ARGS	(1UL << 20)
#define NR_STACK_ARGS	1024
#define NR_OWN_ARGS	12

static bool is_program(const uint8_t *head, long len)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;

	if (len > 2 && head[0] == '#' && head[1] == '!')
		return true;
	return len >= (long)sizeof(*e) && head[0] == 0x7f && head[1] == 'E' && head[2] == 'L' &&
	       head[3] == 'F' && e->e_ident[EI_CLASS] == ELFCLASS64 && e->e_machine == EM_X86_64;
}

/* Can @fd be executed here?  Takes it over. */
static long check_file(long fd)
{
	uint8_t head[64] __attribute__((aligned(8)));
	struct stat st;
	long ret, len;

	if (failed(fd))
		return fd;
	ret = sys2(SYS_fstat, fd, &st);
	len = sys4(SYS_pread64, fd, head, sizeof(head), 0);
	if (!ret && !S_ISREG(st.st_mode))
		ret = -EACCES;
	else if (!ret && !is_program(head, len))
		ret = -ENOEXEC;
	else if (!ret && st.st_mode & S_ISUID && st.st_uid != (uint64_t)sys0(SYS_geteuid))
		ret = -EPERM;
	else if (!ret && (st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
		 st.st_gid != (uint64_t)sys0(SYS_getegid))
		ret = -EPERM;
	close_unheld(fd);
	return ret;
}

static void put_number(char *to, uint32_t n)
{
	char digits[12];
	int i = 0;

	do {
		digits[i++] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	while (i)
		*to++ = digits[--i];
	*to = '\0';
}

/* How many words until NULL; each must be ring 3's. */
static long count(uint64_t list)
{
	uint64_t word;
	long n;

	if (!list)
		return 0;
	for (n = 0; n < (long)MAX_ARGS; n++) {
		if (copy_in(&word, list + (uint64_t)n * 8, 8))
			return -EFAULT;
		if (!word)
			return n;
	}
	return -E2BIG;
}

/* Again, since it may have changed. */
static long copy_words(uint64_t *to, uint64_t from, long n)
{
	for (long i = 0; i < n; i++) {
		if (copy_in(&to[i], from + (uint64_t)i * 8, 8) || !is_ring3s_object(to[i]))
			return -EFAULT;
		if (!to[i])
			return 0;
	}
	to[n] = 0;
	return 0;
}

/*
 * By its whole path, as open() of ring 3's: until it is closed every thread of ring 3 can
 * name it, so it is never more than ring 3 may have open.
 */
static long open_to_run(int dir, const char *path, uint64_t flags)
{
	struct open_how how = { .flags = flags | O_RDONLY | O_NONBLOCK };
	char full[PATH_SIZE];
	long ret = path_resolve(full, dir, path, &how);

	if (ret < 0)
		return ret;
	return ret ? path_reopen(full, &how) : path_open(full, &how);
}

struct target {
	char path[PATH_SIZE];
	char number[12];	/* of a descriptor; "": the path says it */
	long fd;		/* that, to be closed if exec fails; -1: none */
	bool held;
};

/* execveat() with a folder or an open file: by a descriptor that stays open. */
static long by_descriptor(struct target *x, int dir, uint64_t flags)
{
	uint64_t nofollow = flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0;
	char *end = x->path;
	long fd;

	if (is_own_fd((uint64_t)dir))
		return -EBADF;
	if (!*x->path) {
		if (!(flags & AT_EMPTY_PATH))
			return -ENOENT;
		fd = duplicate(dir, F_DUPFD);
	} else {
		fd = open_to_run(dir, x->path, nofollow);
	}
	if (failed(fd))
		return fd;
	x->fd = fd;
	put_number(x->number, (uint32_t)fd);
	for (const char *s = "/dev/fd/"; *s; s++)
		*end++ = *s;
	put_number(end, (uint32_t)fd);
	return check_file(duplicate((int)fd, F_DUPFD_CLOEXEC));
}

/*
 * What is decided about is what is executed: the file is opened by its whole path, and the
 * descriptor, which ring 3 cannot name, goes to the next sandbox.
 */
static long under_rules(struct target *x, int dir)
{
	char full[PATH_SIZE];
	struct open_how how = { 0 };
	long ret = path_resolve(full, dir, x->path, &how), fd;

	if (ret == 1)
		return -EACCES;
	if (!ret)
		ret = policy_file(full, FILE_EXEC);
	if (ret)
		return ret;
	fd = hold(full, O_RDONLY | O_NONBLOCK);
	if (failed(fd))
		return fd;
	x->fd = fd;
	x->held = true;
	this_thread()->exec_held = (uint32_t)fd + 1;
	put_number(x->number, (uint32_t)fd);
	sys3(SYS_fcntl, fd, F_SETFD, 0);
	return check_file(sys3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3));
}

static bool is_in_proc(const char *path)
{
	static const char proc[] = "/proc/";

	for (unsigned int i = 0; proc[i]; i++)
		if (path[i] != proc[i])
			return false;
	return true;
}

static long find(struct target *x, const struct call *call)
{
	bool at = call->nr == SYS_execveat;
	uint64_t flags = at ? call->arg[4] : 0;
	int dir = at ? (int)call->arg[0] : AT_FDCWD;
	long ret = copy_path(x->path, call->arg[at ? 1 : 0]);

	x->fd = -1;
	x->held = false;
	x->number[0] = '\0';
	if (ret)
		return ret;
	if (flags & ~(uint64_t)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -EINVAL;
	if (at && policy.has_files && !*x->path) {
		report("executing an open file was refused: rules for files do not cover it");
		return -EACCES;
	}
	if (at && policy.has_files) {
		if (flags & AT_SYMLINK_NOFOLLOW || is_own_fd((uint64_t)dir))
			return -EACCES;
		return under_rules(x, dir);
	}
	if (at && (!*x->path || (*x->path != '/' && dir != AT_FDCWD) ||
		   flags & AT_SYMLINK_NOFOLLOW))
		return by_descriptor(x, dir, flags);
	ret = sys4(SYS_faccessat2, AT_FDCWD, x->path, X_OK, AT_EACCESS);
	if (ret == -ENOSYS)
		ret = sys3(SYS_faccessat, AT_FDCWD, x->path, X_OK);
	if (ret)
		return ret;
	if (policy.has_files)
		return under_rules(x, AT_FDCWD);
	if (is_in_proc(x->path)) {	/* it may mean another file there, /proc/self/exe does */
		x->fd = open_to_run(AT_FDCWD, x->path, 0);
		if (failed(x->fd))
			return x->fd;
		put_number(x->number, (uint32_t)x->fd);
		return check_file(duplicate((int)x->fd, F_DUPFD_CLOEXEC));
	}
	return check_file(open_to_run(AT_FDCWD, x->path, O_CLOEXEC));
}

long exec_call(struct call *call, struct dune_tf *tf)
{
	uint64_t args = call->arg[call->nr == SYS_execveat ? 2 : 1];
	uint64_t envp = call->arg[call->nr == SYS_execveat ? 3 : 2];
	long nr_args, nr_env, size, ret;
	struct thread *t = this_thread();
	uint64_t on_stack[NR_STACK_ARGS], *words = on_stack, *out;
	char loader[12], report_to[12], policy_at[12], learn_to[12], ask_by[12];
	struct target x;

	(void)tf;
	ret = find(&x, call);
	nr_args = count(args);
	nr_env = count(envp);
	if (!ret && (nr_args < 0 || nr_env < 0))
		ret = nr_args < 0 ? nr_args : nr_env;
	size = nr_args + nr_env + NR_OWN_ARGS + 5;
	if (!ret && size > NR_STACK_ARGS) {
		words = scratch_map((uint64_t)size * 8);
		ret = words ? 0 : -ENOMEM;
		t->exec_scratch = words;
		t->exec_scratch_size = (uint64_t)size * 8;
	}
	if (ret)
		goto out;

	put_number(loader, (uint32_t)setup.loader_fd);
	put_number(report_to, (uint32_t)setup.report_fd);
	put_number(learn_to, (uint32_t)setup.learn_fd);
	put_number(ask_by, (uint32_t)setup.ask_fd);
	put_number(policy_at, (uint32_t)setup.policy_fd);
	out = words;
	*out++ = (uint64_t)"dune-sandbox";
	*out++ = (uint64_t)"--inside";
	*out++ = (uint64_t)loader;
	*out++ = (uint64_t)report_to;
	*out++ = (uint64_t)policy_at;
	*out++ = (uint64_t)learn_to;
	*out++ = (uint64_t)ask_by;
	*out++ = (uint64_t)x.number;
	/* argv[0] is not where the file is; without arguments the kernel makes it "". */
	*out = (uint64_t)"";
	ret = copy_words(out, args, nr_args ? 1 : 0);
	if (!nr_args)
		*out = (uint64_t)"";
	out++;
	*out++ = (uint64_t)x.path;
	*out = 0;
	if (!ret && nr_args > 1)
		ret = copy_words(out, args + 8, nr_args - 1);
	out += nr_args > 1 ? nr_args : 1;
	if (!ret)
		ret = copy_words(out, envp, nr_env);
	if (!nr_env)
		*out = 0;
	if (!ret) {
		struct call exec = { SYS_execveat, {
			(uint64_t)setup.loader_fd, (uint64_t)"", (uint64_t)words, (uint64_t)out,
			AT_EMPTY_PATH, 0 } };

		ret = make_call(&exec);
	}
	if (words != on_stack) {
		scratch_unmap(words, (uint64_t)size * 8);
		t->exec_scratch = NULL;
	}
out:
	t->exec_held = 0;
	if (x.fd >= 0 && x.held)
		release(x.fd);
	else if (x.fd >= 0)
		close_unheld(x.fd);
	return ret;
}
