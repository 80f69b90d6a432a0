// SPDX-License-Identifier: MIT
/*
 * Would the kernel start a file, and can the loader load it?  All that a file names is
 * looked at as well, the interpreters of scripts and the program's dynamic loader: past
 * execve() it is too late to tell the caller that one of them is not there.
 *
 * Lean code, on the host stack.  "No" sends the file to the kernel, which starts it
 * outside Dune mode or says what is wrong.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "local.h"

#define HEAD_SIZE	256	/* what the kernel looks at (BINPRM_BUF_SIZE) */
#define MAX_FILES	6	/* a script, its interpreter, that one's, ... (exec_binprm()) */
#define MAX_PHDRS_SIZE	65536	/* load_elf_phdrs() */
#define PHDRS_AT_ONCE	8

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
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

/*
 * Is the file open for writing?  Then it cannot be executed.  Who owns it, and the
 * superuser, may ask for a lease, which would tell of a writer; nobody else is told.
 * A writer that comes in this moment makes a signal that does nothing.
 */
static bool is_busy(int fd)
{
	long ret;

	__dune_syscall3(SYS_fcntl, fd, F_SETSIG, SIGURG);
	ret = __dune_syscall3(SYS_fcntl, fd, F_SETLEASE, F_RDLCK);
	if (!ret)
		__dune_syscall3(SYS_fcntl, fd, F_SETLEASE, F_UNLCK);
	return ret == -EAGAIN;
}

/* As open_exec(), a descriptor; negative: not to be executed, or not to be read. */
static long open_interpreter(const char *path)
{
	if (__dune_syscall4(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS))
		return -1;
	return __dune_make_fd(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_NONBLOCK | O_CLOEXEC,
			      0);
}

/* "#! interpreter"; NULL: none, or one that does not end within the head. */
static const char *interpreter_of(char *head, long len)
{
	long at = 2, end;

	if (len <= 2 || head[0] != '#' || head[1] != '!')
		return NULL;
	while (at < len && is_blank(head[at]))
		at++;
	for (end = at; end < len && !is_blank(head[end]) && head[end] != '\n' && head[end]; end++)
		;
	if (end == at || end >= HEAD_SIZE)
		return NULL;
	head[end] = '\0';
	return head + at;
}

static bool has_elf64_header(const Elf64_Ehdr *e, long len)
{
	return len >= (long)sizeof(*e) && *(const uint32_t *)e->e_ident == 0x464c457fU &&
	       e->e_ident[EI_CLASS] == ELFCLASS64 && e->e_machine == EM_X86_64 &&
	       (e->e_type == ET_EXEC || e->e_type == ET_DYN) &&
	       e->e_phentsize == sizeof(Elf64_Phdr) && e->e_phnum &&
	       e->e_phnum <= MAX_PHDRS_SIZE / sizeof(Elf64_Phdr);
}

/* Are all program headers there?  The first PT_INTERP goes to @interp, or p_filesz is 0. */
static bool read_phdrs(long fd, const Elf64_Ehdr *e, Elf64_Phdr *interp)
{
	Elf64_Phdr ph[PHDRS_AT_ONCE];
	unsigned int at, i, n;
	long size;

	interp->p_filesz = 0;
	for (at = 0; at < e->e_phnum; at += n) {
		n = e->e_phnum - at < PHDRS_AT_ONCE ? e->e_phnum - at : PHDRS_AT_ONCE;
		size = n * (long)sizeof(ph[0]);
		if (__dune_syscall4(SYS_pread64, fd, ph, size,
				    e->e_phoff + at * sizeof(ph[0])) != size)
			return false;
		for (i = 0; i < n && !interp->p_filesz; i++) {
			if (ph[i].p_type != PT_INTERP)
				continue;
			if (ph[i].p_filesz < 2)
				return false;
			__dune_copy(interp, &ph[i], sizeof(*interp));
		}
	}
	return true;
}

static bool is_dynamic_loader(long fd)
{
	Elf64_Ehdr e;
	Elf64_Phdr unused;
	long len = __dune_syscall4(SYS_pread64, fd, &e, sizeof(e), 0);

	return !is_privileged((int)fd) && !is_busy((int)fd) && has_elf64_header(&e, len) &&
	       read_phdrs(fd, &e, &unused);
}

/* A path longer than a script's is left to the kernel. */
static bool is_program(long fd, const char *head, long len)
{
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)head;
	char path[HEAD_SIZE];
	Elf64_Phdr interp;
	long size, loader;
	bool ok;

	if (!has_elf64_header(e, len) || !read_phdrs(fd, e, &interp))
		return false;
	if (!interp.p_filesz)
		return true;
	if (interp.p_filesz > sizeof(path))
		return false;
	size = (long)interp.p_filesz;
	if (__dune_syscall4(SYS_pread64, fd, path, size, interp.p_offset) != size ||
	    path[size - 1])
		return false;
	loader = open_interpreter(path);
	if (loader < 0)
		return false;
	ok = is_dynamic_loader(loader);
	__dune_own3(SYS_close, loader, 0, 0);
	return ok;
}

/* @fd stays open.  @is_script: it names another file. */
bool __dune_loadable(int fd, bool *is_script)
{
	char head[HEAD_SIZE] __attribute__((aligned(8)));
	const char *interpreter;
	bool ok = false;
	long at = fd, len;
	int depth;

	*is_script = false;
	for (depth = 0; depth < MAX_FILES; depth++) {
		if (is_privileged((int)at) || is_busy((int)at))
			break;
		len = __dune_syscall4(SYS_pread64, at, head, sizeof(head), 0);
		ok = is_program(at, head, len);
		interpreter = ok ? NULL : interpreter_of(head, len);
		if (!interpreter)
			break;
		*is_script = true;
		if (at != fd)
			__dune_own3(SYS_close, at, 0, 0);
		at = open_interpreter(interpreter);
		if (at < 0)
			return false;
	}
	if (at != fd)
		__dune_own3(SYS_close, at, 0, 0);
	return ok;
}
