// SPDX-License-Identifier: MIT
/*
 * exec out of Dune mode, when the program asked that what it starts be in Dune
 * mode too (dune_exec_through): the loader is started in its place, and told
 * what to load.
 *
 * Lean code, on the host stack.  Whatever would fail natively is left to the
 * kernel, which knows the right error.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "local.h"

#define HEAD_SIZE	256	/* what the kernel looks at (BINPRM_BUF_SIZE) */
#define NR_OWN_ARGS	5	/* loader, "--as", argv[0], "--path", "--" */
#define NR_STACK_ARGS	2048
#define MAX_ARGS	(1UL << 20)

int __dune_exec_fd = -1;

DUNE_EXPORT int dune_exec_through(const char *loader)
{
	long fd = -1;
	int old;

	if (loader) {
		fd = __dune_syscall4(SYS_openat, AT_FDCWD, loader, O_PATH | O_CLOEXEC, 0);
		if (fd < 0)
			return (int)fd;
		fd = __dune_raise_fd((int)fd);
	}
	old = __atomic_exchange_n(&__dune_exec_fd, (int)fd, __ATOMIC_ACQ_REL);
	if (old >= 0)
		__dune_own3(SYS_close, old, 0, 0);
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* "#! interpreter": can it be executed? */
static bool interpreter_there(char *head, long len)
{
	long at = 2, end;

	while (at < len && is_blank(head[at]))
		at++;
	for (end = at; end < len && !is_blank(head[end]) && head[end] != '\n' && head[end]; end++)
		;
	if (end == at || end >= HEAD_SIZE)
		return false;
	head[end] = '\0';
	return !__dune_syscall4(SYS_faccessat, AT_FDCWD, head + at, X_OK, 0);
}

static bool is_elf64(const char *head, long len)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;

	return len >= (long)sizeof(*e) && *(const uint32_t *)head == 0x464c457fU &&
	       e->e_ident[EI_CLASS] == ELFCLASS64 && e->e_machine == EM_X86_64 &&
	       (e->e_type == ET_EXEC || e->e_type == ET_DYN);
}

/* Would a new image get privileges that a loader cannot hand on? */
static bool is_privileged(int fd)
{
	struct stat st;

	if (__dune_syscall3(SYS_fstat, fd, &st, 0) || !S_ISREG(st.st_mode))
		return true;
	return st.st_mode & (S_ISUID | S_ISGID) ||
	       __dune_syscall4(SYS_fgetxattr, fd, "security.capability", 0, 0) > 0;
}

static long open_quietly(const char *path, int flags)
{
	return __dune_make_fd(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, 0);
}

/* Is @path something that the loader can load and the kernel would start? */
static bool is_loadable(uint64_t path)
{
	char head[HEAD_SIZE] __attribute__((aligned(8)));
	bool ok = false;
	long fd, len;

	if (__dune_syscall4(SYS_faccessat, AT_FDCWD, path, X_OK, 0))
		return false;
	fd = open_quietly((const char *)path, O_RDONLY | O_NONBLOCK);
	if (fd < 0)
		return false;
	if (!is_privileged((int)fd)) {
		len = __dune_syscall4(SYS_pread64, fd, head, sizeof(head), 0);
		ok = is_elf64(head, len) ||
		     (len > 2 && head[0] == '#' && head[1] == '!' && interpreter_there(head, len));
	}
	__dune_syscall3(SYS_close, fd, 0, 0);
	return ok;
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
	fd = open_quietly("/proc/thread-self/status", O_RDONLY);
	if (fd < 0)
		return false;
	len = __dune_syscall3(SYS_read, fd, status, sizeof(status));
	__dune_syscall3(SYS_close, fd, 0, 0);
	return !is_traced(status, len);
}

/* Strings in @argv; -EFAULT, -E2BIG. */
static long count(uint64_t argv)
{
	uint64_t word, n;

	for (n = 0; n < MAX_ARGS; n++) {
		if (__dune_copy_in(&word, argv + 8 * n, 8))
			return -EFAULT;
		if (!word)
			return (long)n;
	}
	return -E2BIG;
}

/*
 * A link of /proc that says where a file is: followed here, since to the loader
 * /proc/self is itself.  The path to load; 0: what it names has no path any more.
 */
static uint64_t path_of(uint64_t path, char *buf, long size)
{
	static const char proc[] = "/proc/";
	const char *given = (const char *)path;
	long n;

	for (n = 0; proc[n]; n++)
		if (given[n] != proc[n])
			return path;
	n = __dune_syscall3(SYS_readlink, path, buf, size - 1);
	if (n < 0)
		return path;	/* not a link */
	buf[n] = '\0';
	if (buf[0] != '/' || __dune_syscall4(SYS_faccessat, AT_FDCWD, buf, X_OK, 0))
		return 0;
	return (uint64_t)buf;
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

static long start_loader(struct dune_percpu *pc, uint64_t path, uint64_t *args, long n)
{
	const struct dune_regs *r = &pc->run->regs;
	static const char name[] = "dune-run", as[] = "--as", is_path[] = "--path", dashes[] = "--",
		empty[] = "";
	struct image im = { SYS_execveat, __dune_exec_fd, (long)empty, (long)args, (long)r->rdx,
			    AT_EMPTY_PATH };
	uint64_t first = (uint64_t)empty;

	if (n && __dune_copy_in(&first, r->rsi, 8))
		return -EFAULT;
	args[0] = (uint64_t)name;
	args[1] = (uint64_t)as;
	args[2] = first;
	args[3] = (uint64_t)is_path;
	args[4] = (uint64_t)dashes;
	args[5] = path;
	if (n > 1 && __dune_copy_in(&args[6], r->rsi + 8, 8 * (size_t)(n - 1)))
		return -EFAULT;
	args[n > 1 ? 6 + n - 1 : 6] = 0;
	return load(pc, &im);
}

/* execve(), execveat().  What the latter starts is outside Dune mode. */
long __dune_exec(struct dune_percpu *pc)
{
	const struct dune_regs *r = &pc->run->regs;
	uint64_t few[NR_STACK_ARGS], path;
	char link[4096];
	long n, ret, size, p;

	if (r->rax != SYS_execve || __dune_filtered || !loader_works() || !is_loadable(r->rdi))
		return load_plain(pc);
	path = path_of(r->rdi, link, sizeof(link));
	if (!path)
		return load_plain(pc);
	n = r->rsi ? count(r->rsi) : 0;
	if (n < 0)
		return n;
	if (n + NR_OWN_ARGS + 2 <= NR_STACK_ARGS)
		return start_loader(pc, path, few, n);

	size = (n + NR_OWN_ARGS + 2) * 8;
	p = __dune_syscall6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	if (p < 0 && p > -4096)
		return p;
	ret = start_loader(pc, path, (uint64_t *)p, n);
	__dune_syscall3(SYS_munmap, p, size, 0);
	return ret;
}
