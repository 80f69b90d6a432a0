// SPDX-License-Identifier: MIT
/*
 * A traced process that makes system calls on behalf of its tracer.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tracee.h"

#define SYSCALL_STOP	(SIGTRAP | 0x80)

static bool is_stop_signal(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

/*
 * The next stop that is for us; what comes before is the process's own, and it goes on
 * by @how.  Ends the caller with the process.  Returns the wait status.
 */
static int wait_stop(const struct tracee *t, enum __ptrace_request how)
{
	for (;;) {
		enum __ptrace_request next = how;
		int status, event;

		if (waitpid(t->pid, &status, __WALL) != t->pid || !WIFSTOPPED(status))
			_exit(0);
		event = status >> 16;
		if (WSTOPSIG(status) == SYSCALL_STOP || event == PTRACE_EVENT_EXEC)
			return status;
		if (event == PTRACE_EVENT_STOP && is_stop_signal(WSTOPSIG(status)))
			next = PTRACE_LISTEN;	/* until somebody continues it */
		ptrace(next, t->pid, 0, event ? 0L : (long)WSTOPSIG(status));
	}
}

static int resume(const struct tracee *t, enum __ptrace_request how)
{
	ptrace(how, t->pid, 0, 0);
	return wait_stop(t, how);
}

/*
 * Until the program that the process executes is loaded, and the call is over.  The
 * process runs when this begins, or is there already.
 */
void tracee_wait_exec(struct tracee *t)
{
	while (wait_stop(t, PTRACE_CONT) >> 16 != PTRACE_EVENT_EXEC)
		;
	resume(t, PTRACE_SYSCALL);
	ptrace(PTRACE_GETREGS, t->pid, 0, &t->initial);
}

long tracee_call(struct tracee *t, long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
		 uint64_t e, uint64_t f)
{
	struct user_regs_struct r = t->initial;

	r.rip = t->call;
	r.rax = (uint64_t)nr;
	r.orig_rax = ~0ULL;
	r.rdi = a;
	r.rsi = b;
	r.rdx = c;
	r.r10 = d;
	r.r8 = e;
	r.r9 = f;
	if (ptrace(PTRACE_SETREGS, t->pid, 0, &r))
		return -errno;
	resume(t, PTRACE_SYSCALL);
	resume(t, PTRACE_SYSCALL);
	if (ptrace(PTRACE_GETREGS, t->pid, 0, &r))
		return -errno;
	return (long)r.rax;
}

static uint64_t vdso_of(pid_t pid)
{
	Elf64_auxv_t av;
	uint64_t at = 0;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !at && read(fd, &av, sizeof(av)) == sizeof(av) && av.a_type != AT_NULL)
		if (av.a_type == AT_SYSINFO_EHDR)
			at = av.a_un.a_val;
	if (fd >= 0)
		close(fd);
	return at;
}

/* A SYSCALL instruction of the vDSO, which is the same in both processes. */
static uint64_t find_instruction(pid_t pid)
{
	const unsigned char *own = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)own;
	uint64_t other = vdso_of(pid);
	const Elf64_Phdr *ph;

	if (!own || !other)
		return 0;
	ph = (const Elf64_Phdr *)(own + eh->e_phoff);
	for (int i = 0; i < eh->e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD || !(ph[i].p_flags & PF_X))
			continue;
		for (uint64_t at = 0x100; at + 2 <= ph[i].p_filesz; at++)
			if (own[at] == 0x0f && own[at + 1] == 0x05)
				return other + at;
	}
	return 0;
}

/* Can calls be made?  The bytes might be part of another instruction. */
int tracee_prepare(struct tracee *t)
{
	t->call = find_instruction(t->pid);
	if (!t->call)
		return -ENOSYS;
	return tracee_call(t, SYS_getpid, 0, 0, 0, 0, 0, 0) > 0 ? 0 : -ENOSYS;
}

/* Let it go on at @rip with the stack pointer @rsp and one argument. */
int tracee_release(struct tracee *t, uint64_t rip, uint64_t rsp, uint64_t arg)
{
	struct user_regs_struct r = t->initial;

	r.rip = rip;
	r.rsp = rsp;
	r.rdi = arg;
	r.orig_rax = ~0ULL;
	if (ptrace(PTRACE_SETREGS, t->pid, 0, &r) || ptrace(PTRACE_DETACH, t->pid, 0, 0))
		return -errno;
	return 0;
}
