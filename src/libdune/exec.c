// SPDX-License-Identifier: MIT
/*
 * exec out of Dune mode, when the program asked that what it starts be in Dune
 * mode too (dune_exec_through): the loader is started in its place, and told
 * what to load.
 *
 * Lean code, on the host stack.  Whatever would fail natively is left to the
 * kernel, which knows the right error.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"

#define NR_STACK_STRINGS	2048
#define MAX_STRINGS	(1UL << 20)
#define NOTE_SIZE	(4096 + 32)	/* a path and what stands before it */

int __dune_exec_fd = -1;

DUNE_EXPORT int dune_exec_through(const char *loader)
{
	long fd = -1;
	int old;

	if (loader) {
		fd = __dune_make_fd(SYS_openat, AT_FDCWD, (long)loader, O_PATH | O_CLOEXEC, 0);
		if (fd < 0)
			return (int)fd;
		fd = __dune_raise_fd((int)fd);
	}
	old = __atomic_exchange_n(&__dune_exec_fd, (int)fd, __ATOMIC_ACQ_REL);
	if (old >= 0)
		__dune_own3(SYS_close, old, 0, 0);
	return 0;
}

static long open_quietly(int dir, const char *path, int flags)
{
	return __dune_make_fd(SYS_openat, dir, (long)path, flags | O_CLOEXEC, 0);
}

/* What an exec names, and what the loader is told of it. */
struct target {
	uint64_t argv, envp;
	uint64_t name;		/* what the program will find as its name */
	long fd;		/* the file */
	bool by_fd;		/* the loader cannot find it by its name */
	bool name_ends;		/* and what executes cannot either: closed on exec */
	char buf[4096];
};

static long put_string(char *buf, long at, long size, const char *s)
{
	while (at >= 0 && *s) {
		if (at + 1 >= size)
			return -1;
		buf[at++] = *s++;
	}
	return at;
}

static long put_number(char *buf, long at, long size, unsigned int n)
{
	char digits[12];
	int i = sizeof(digits);

	digits[--i] = '\0';
	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return put_string(buf, at, size, digits + i);
}

/* "/dev/fd/5" or "/dev/fd/5/path", as alloc_bprm() has it. */
static bool name_by_fd(struct target *t, int dir, const char *path)
{
	long at = put_string(t->buf, 0, sizeof(t->buf), "/dev/fd/"), flags;

	at = put_number(t->buf, at, sizeof(t->buf), (unsigned int)dir);
	if (*path)
		at = put_string(t->buf, at, sizeof(t->buf), "/");
	at = put_string(t->buf, at, sizeof(t->buf), path);
	if (at < 0)
		return false;
	t->buf[at] = '\0';
	t->name = (uint64_t)t->buf;
	t->by_fd = true;
	flags = __dune_syscall3(SYS_fcntl, dir, F_GETFD, 0);
	t->name_ends = flags < 0 || flags & FD_CLOEXEC;
	return true;
}

static bool starts_with(const char *s, const char *with)
{
	while (*with && *s == *with) {
		s++;
		with++;
	}
	return !*with;
}

/*
 * Where a call points to, opened; false: leave it to the kernel, which knows what is
 * wrong.  To the loader /proc/self is itself, so it gets such a file by descriptor.
 */
static bool find(const struct dune_regs *r, struct target *t)
{
	bool at = r->rax == SYS_execveat;
	long flags = at ? (int)r->r8 : 0;
	int dir = at ? (int)r->rdi : AT_FDCWD, nofollow;
	uint64_t given = at ? r->rsi : r->rdi;
	const char *path = (const char *)given;

	t->argv = at ? r->rdx : r->rsi;
	t->envp = at ? r->r10 : r->rdx;
	t->name = given;
	t->by_fd = t->name_ends = false;
	if (flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ||
	    __dune_syscall4(SYS_faccessat2, dir, path, X_OK, flags | AT_EACCESS))
		return false;
	nofollow = flags & AT_SYMLINK_NOFOLLOW ? O_NOFOLLOW : 0;
	if (!*path) {
		char link[32];
		long end = put_string(link, 0, sizeof(link), "/proc/self/fd/");

		end = dir < 0 ? -1 : put_number(link, end, sizeof(link), (unsigned int)dir);
		if (end < 0 || !name_by_fd(t, dir, path))
			return false;
		link[end] = '\0';
		t->fd = open_quietly(AT_FDCWD, link, O_RDONLY | O_NONBLOCK);
		return t->fd >= 0;
	}
	if (*path != '/' && dir != AT_FDCWD) {
		if (!name_by_fd(t, dir, path))
			return false;
	} else if (starts_with(path, "/proc/")) {
		t->by_fd = true;
	}
	t->fd = open_quietly(dir, path, O_RDONLY | O_NONBLOCK | nofollow);
	return t->fd >= 0;
}

/*
 * Is the caller being traced?  A debugger that starts a program means the program:
 * in Dune mode it would see libdune's stub, and its breakpoints would be
 * exceptions of the guest's.
 */
static bool is_traced(const char *status, long len)
{
	static const char key[] = "\nTracerPid:\t";
	long at, k;

	for (at = 0; at + (long)sizeof(key) <= len; at++) {
		for (k = 0; key[k] && status[at + k] == key[k]; k++)
			;
		if (!key[k])
			return status[at + k] != '0';
	}
	return false;
}

/*
 * Would the loader find what it needs?  A root directory of containers and jails
 * may lack /proc or /dev/dune; a program that is executed there runs all the
 * same, outside Dune mode.
 */
static bool loader_works(void)
{
	char status[512];
	long fd, len;

	if (__dune_exec_fd < 0 ||
	    __dune_syscall4(SYS_faccessat, AT_FDCWD, "/dev/dune", R_OK | W_OK, 0))
		return false;
	fd = open_quietly(AT_FDCWD, "/proc/thread-self/status", O_RDONLY);
	if (fd < 0)
		return false;
	len = __dune_syscall3(SYS_read, fd, status, sizeof(status));
	__dune_syscall3(SYS_close, fd, 0, 0);
	return !is_traced(status, len);
}

/* Strings in @list, which may be NULL; -EFAULT, -E2BIG. */
static long count(uint64_t list)
{
	uint64_t word, n;

	for (n = 0; list && n < MAX_STRINGS; n++) {
		if (__dune_copy_in(&word, list + 8 * n, 8))
			return -EFAULT;
		if (!word)
			return (long)n;
	}
	return list ? -E2BIG : 0;
}

/* What execve or execveat gets. */
struct image {
	long nr, a, b, c, d, e;
};

static long exec(struct dune_percpu *pc, const struct image *im)
{
	return __dune_exec_call(pc, im->nr, im->a, im->b, im->c, im->d, im->e);
}

/*
 * An address space that ends with an MMU notifier waits for a grace period, and
 * exec ends it: let go of the VM before, and take it back if exec fails.  Not
 * where the address space lives on, and not if it is likely to fail.
 */
static long exec_released(struct dune_percpu *pc, const struct image *im)
{
	long ret = __dune_syscall3(SYS_ioctl, pc->vcpu_fd, DUNE_GET_STATE, &pc->child_state);

	if (ret)
		return ret;
	__dune_copy(&pc->child_regs, &pc->run->regs, sizeof(pc->child_regs));
	if (!__dune_release_vm(pc))
		return exec(pc, im);
	/* Their place is kept. */
	__dune_syscall6(SYS_mmap, (long)pc->run, DUNE_GUARD_OFFSET - DUNE_RUN_OFFSET, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ret = exec(pc, im);
	__dune_return_to_vm(pc);
	return ret;
}

static long load(struct dune_percpu *pc, const struct image *im)
{
	if (pc->vforked || pc->alone || __dune_filtered)
		return exec(pc, im);
	return exec_released(pc, im);
}

static long load_plain(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	struct image im = { (long)r->rax, (long)r->rdi, (long)r->rsi, (long)r->rdx, (long)r->r10,
			    (long)r->r8 };

	if (r->rax == SYS_execve && !__dune_filtered &&
	    __dune_syscall4(SYS_faccessat, AT_FDCWD, r->rdi, X_OK, 0))
		return exec(pc, &im);	/* fails */
	return load(pc, &im);
}

/* As put_string(), of a string of the program's. */
static long put_copied(char *buf, long at, long size, uint64_t from)
{
	char c;

	for (; at >= 0 && !__dune_copy_in(&c, from, 1) && c; from++) {
		if (at + 1 >= size)
			return -1;
		buf[at++] = c;
	}
	return at;
}

/* What the loader is told: "DUNE_EXEC=[DESCRIPTOR]:PATH". */
static bool put_note(char note[NOTE_SIZE], const struct target *t)
{
	long at = put_string(note, 0, NOTE_SIZE, DUNE_EXEC_NOTE);

	if (t->by_fd)
		at = put_number(note, at, NOTE_SIZE, (unsigned int)t->fd);
	at = put_string(note, at, NOTE_SIZE, ":");
	at = put_copied(note, at, NOTE_SIZE, t->name);
	if (at < 0)
		return false;
	note[at] = '\0';
	return true;
}

/*
 * The arguments are the program's from the first moment on, for those who look at the
 * process.  @env has room for @n strings, the note and the end.
 */
static long start_loader(struct dune_percpu *pc, const struct target *t, uint64_t *env, long n)
{
	static const char empty[] = "";
	const uint64_t no_args[] = { (uint64_t)empty, 0 };	/* as of 5.18 */
	struct image im = { SYS_execveat, __dune_exec_fd, (long)empty, (long)t->argv, (long)env,
			    AT_EMPTY_PATH };
	char note[NOTE_SIZE];
	uint64_t first = 0;

	if (t->argv && __dune_copy_in(&first, t->argv, 8))
		return -EFAULT;
	if (!first)
		im.c = (long)no_args;
	if (n && __dune_copy_in(env, t->envp, 8 * (size_t)n))
		return -EFAULT;
	if (!put_note(note, t))
		return -ENAMETOOLONG;
	env[n] = (uint64_t)note;
	env[n + 1] = 0;
	if (t->by_fd)
		__dune_syscall3(SYS_fcntl, t->fd, F_SETFD, 0);
	return load(pc, &im);
}

static long start_found(struct dune_percpu *pc, const struct target *t)
{
	uint64_t few[NR_STACK_STRINGS];
	long n = count(t->envp), size, p, ret;

	if (n < 0)
		return n;
	if (n + 2 <= NR_STACK_STRINGS)
		return start_loader(pc, t, few, n);
	size = (n + 2) * 8;
	p = __dune_syscall6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (p < 0 && p > -4096)
		return p;
	ret = start_loader(pc, t, (uint64_t *)p, n);
	__dune_syscall3(SYS_munmap, p, size, 0);
	return ret;
}

/* execve(), execveat() */
long __dune_exec(struct dune_percpu *pc)
{
	struct target t;
	bool is_script;
	long ret;

	if (__dune_filtered || !loader_works() || !find(&pc->run->regs, &t))
		return load_plain(pc);
	if (!__dune_loadable((int)t.fd, &is_script) || (is_script && t.name_ends)) {
		__dune_own3(SYS_close, t.fd, 0, 0);
		return load_plain(pc);
	}
	if (!t.by_fd) {		/* who shares the descriptors would keep it */
		__dune_own3(SYS_close, t.fd, 0, 0);
		return start_found(pc, &t);
	}
	t.fd = __dune_raise_fd((int)t.fd);
	ret = start_found(pc, &t);
	__dune_own3(SYS_close, t.fd, 0, 0);
	return ret;
}
