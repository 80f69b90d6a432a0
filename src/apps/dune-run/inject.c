// SPDX-License-Identifier: MIT
/*
 * For those who may not tell the kernel another executable: the kernel loads the
 * program, as ever, and a helper puts libdune in before its first instruction.
 *
 * The process executes the program itself, so that whatever the kernel shows of a
 * process is the program's.  The helper is a process that traces it for this moment:
 * no child of the program's, in a session of its own, and gone when the program runs.
 * If the helper dies early the program is killed, for it would run half prepared.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dune-run.h"
#include "inside/inside.h"
#include "tracee.h"

#define EXIT_OWN	125
#define STACK_SIZE	0x10000UL

extern const char inside_image[], inside_image_end[];

/* PR_SET_MM_MAP with an exe_fd: CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN. */
bool may_name_executable(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { { 0 } };

	return !syscall(SYS_capget, &head, data) &&
	       ((data[0].effective & 1U << CAP_SYS_ADMIN) ||
		(data[1].effective & 1U << (40 /* CAP_CHECKPOINT_RESTORE */ - 32)));
}

/* ---- the image ------------------------------------------------------- */

static const Elf64_Ehdr *header(void)
{
	return (const Elf64_Ehdr *)inside_image;
}

static const Elf64_Phdr *headers(void)
{
	return (const Elf64_Phdr *)(inside_image + header()->e_phoff);
}

static uint64_t image_size(void)
{
	uint64_t end = 0;

	for (int i = 0; i < header()->e_phnum; i++) {
		const Elf64_Phdr *ph = &headers()[i];

		if (ph->p_type == PT_LOAD && ph->p_vaddr + ph->p_memsz > end)
			end = ph->p_vaddr + ph->p_memsz;
	}
	return PAGE_UP(end);
}

static int relocate(char *copy, uint64_t base)
{
	const Elf64_Dyn *dyn = NULL;
	uint64_t rela = 0, size = 0;

	for (int i = 0; i < header()->e_phnum; i++)
		if (headers()[i].p_type == PT_DYNAMIC)
			dyn = (const Elf64_Dyn *)(copy + headers()[i].p_vaddr);
	for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
		if (dyn->d_tag == DT_RELA)
			rela = dyn->d_un.d_ptr;
		else if (dyn->d_tag == DT_RELASZ)
			size = dyn->d_un.d_val;
	}
	for (uint64_t at = 0; at < size; at += sizeof(Elf64_Rela)) {
		const Elf64_Rela *r = (const Elf64_Rela *)(copy + rela + at);
		uint64_t value = base + (uint64_t)r->r_addend;

		if (ELF64_R_TYPE(r->r_info) != R_X86_64_RELATIVE)
			return -ENOEXEC;
		memcpy(copy + r->r_offset, &value, sizeof(value));
	}
	return 0;
}

/* The image as it is to lie at @base, its arguments behind it. */
static char *build(uint64_t base, uint64_t size, const struct inside_args *args)
{
	uint64_t at = image_size();
	char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (copy == MAP_FAILED)
		return NULL;
	for (int i = 0; i < header()->e_phnum; i++) {
		const Elf64_Phdr *ph = &headers()[i];

		if (ph->p_type == PT_LOAD)
			memcpy(copy + ph->p_vaddr, inside_image + ph->p_offset, ph->p_filesz);
	}
	memcpy(copy + at, args, sizeof(*args));
	return relocate(copy, base) ? NULL : copy;
}

static int protect(struct tracee *t, uint64_t base)
{
	for (int i = 0; i < header()->e_phnum; i++) {
		const Elf64_Phdr *ph = &headers()[i];
		uint64_t from = PAGE_DOWN(ph->p_vaddr), end = PAGE_UP(ph->p_vaddr + ph->p_memsz);
		uint64_t prot = PROT_READ | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
				(ph->p_flags & PF_X ? PROT_EXEC : 0);
		long ret = 0;

		if (ph->p_type == PT_LOAD)
			ret = tracee_call(t, SYS_mprotect, base + from, end - from, prot, 0, 0, 0);
		if (ret)
			return (int)ret;
	}
	return 0;
}

static int put_inside(struct tracee *t, struct inside_args *args)
{
	uint64_t image = image_size(), size = image + PAGE_UP(sizeof(*args)), base;
	struct iovec local, remote;
	int ret = tracee_prepare(t);

	if (ret)
		return ret;
	base = (uint64_t)tracee_call(t, SYS_mmap, 0, size + STACK_SIZE, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, ~0ULL, 0);
	if (base > -4096ULL)
		return (int)base;
	args->sp = t->initial.rsp;
	args->entry = t->initial.rip;
	local = (struct iovec) { build(base, size, args), size };
	remote = (struct iovec) { (void *)base, size };
	if (!local.iov_base)
		return -ENOMEM;
	if (process_vm_writev(t->pid, &local, 1, &remote, 1, 0) != (ssize_t)size)
		return errno ? -errno : -EIO;
	ret = protect(t, base);
	/* As if called: a return address below an aligned stack pointer. */
	return ret ? ret : tracee_release(t, base + header()->e_entry,
					  base + size + STACK_SIZE - 8, base + image);
}

/* ---- the helper -------------------------------------------------------- */

static bool tell(int fd, int word)
{
	return write(fd, &word, sizeof(word)) == sizeof(word);
}

static bool hear(int fd, int *word)
{
	ssize_t n;

	do
		n = read(fd, word, sizeof(*word));
	while (n < 0 && errno == EINTR);
	return n == sizeof(*word);
}

static void __attribute__((noreturn)) help(pid_t pid, int link, struct inside_args *args)
{
	struct tracee t = { .pid = pid };
	sigset_t all;
	int go, ret;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid();
	if (!tell(link, getpid()) || !hear(link, &go))
		_exit(1);
	ret = ptrace(PTRACE_SEIZE, pid, 0,
		     PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) ? errno : 0;
	if (!tell(link, ret) || ret)
		_exit(1);
	close(link);
	tracee_wait_exec(&t);
	ret = put_inside(&t, args);
	if (!ret)
		_exit(0);
	fprintf(stderr, "dune-run: preparing the program: %s\n", strerror(-ret));
	tracee_call(&t, SYS_exit_group, EXIT_OWN, 0, 0, 0, 0, 0);
	_exit(1);
}

/* A child whose end nobody is told of, and who is gone when this returns. */
static int start_helper(int *link, struct inside_args *args)
{
	pid_t self = getpid(), child;
	int ends[2], status = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	child = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0);
	if (child == 0) {
		child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (child == 0) {
			close(ends[0]);
			help(self, ends[1], args);
		}
		_exit(child < 0 ? errno : 0);
	}
	*link = ends[0];
	close(ends[1]);
	if (child < 0)
		return -errno;
	while (waitpid(child, &status, __WALL) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EAGAIN;
}

/* Who inherits orphans would find the helper among its children. */
static bool inherits_orphans(void)
{
	int subreaper = 0;

	prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0);
	return subreaper || getpid() == 1;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * Execute *@s with a helper at hand.  Returns only if that cannot be: why there is
 * no helper, or, with *@executed set, what execve() said.
 */
int inject(const struct start *s, bool *executed)
{
	static struct inside_args args;
	int link = -1, helper, answer = EIO, ret;

	*executed = false;
	if (inherits_orphans())
		return -ECHILD;
	args.verify = s->verify;
	if (strlen(s->loader) >= sizeof(args.loader))
		return -ENAMETOOLONG;
	strcpy(args.loader, s->loader);
	if (s->fd >= 0 && descriptor_of(s->path) < 0) {
		if (strlen(s->path) >= sizeof(args.path))
			return -ENAMETOOLONG;
		strcpy(args.path, s->path);
		strncpy(args.name, last_part(s->path), sizeof(args.name) - 1);
	}
	ret = start_helper(&link, &args);
	if (!ret && !hear(link, &helper))
		ret = -EIO;
	if (!ret) {
		prctl(PR_SET_PTRACER, helper, 0, 0, 0);		/* Yama; others know no such thing */
		if (!tell(link, 0) || !hear(link, &answer))
			answer = EIO;
		prctl(PR_SET_PTRACER, 0, 0, 0, 0);
		ret = -answer;
	}
	close(link);
	if (ret)
		return ret;
	*executed = true;
	room_give_back();
	if (s->fd >= 0)
		syscall(SYS_execveat, s->fd, "", s->argv, s->envp, AT_EMPTY_PATH);
	else
		execve(s->path, s->argv, s->envp);
	return -errno;
}
