/* SPDX-License-Identifier: MIT */
/* A tracer that stops a child at its system calls, as strace and sandboxes do. */
#ifndef TESTS_TRACER_H
#define TESTS_TRACER_H

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "ktap.h"

/* A child that makes getpid() for ever, stopped before the first. */
__attribute__((unused)) static pid_t tracer_start(void)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		ktap_bail("fork: %s", strerror(errno));
	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		for (;;)
			syscall(SYS_getpid);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		ktap_bail("the traced child did not stop");
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))
		ktap_bail("PTRACE_SETOPTIONS: %s", strerror(errno));
	return pid;
}

/* On to the next stop, which must be at a system call. */
__attribute__((unused)) static void tracer_step(pid_t pid, int request)
{
	int status;

	if (ptrace(request, pid, 0, 0))
		ktap_bail("ptrace(%d): %s", request, strerror(errno));
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
	    WSTOPSIG(status) != (SIGTRAP | 0x80))
		ktap_bail("no stop at a system call: %x", (unsigned int)status);
}

__attribute__((unused)) static struct user_regs_struct tracer_regs(pid_t pid)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
		ktap_bail("PTRACE_GETREGS: %s", strerror(errno));
	return regs;
}

/* ---- @n calls of the child at *@arg: batches for a bench --------------------- */

/* The tracer reads the registers at the call and lets it pass: two stops. */
__attribute__((unused)) static void tracer_forward(unsigned int n, void *arg)
{
	pid_t pid = *(pid_t *)arg;

	for (unsigned int i = 0; i < n; i++) {
		tracer_step(pid, PTRACE_SYSCALL);
		if (tracer_regs(pid).orig_rax != SYS_getpid)
			ktap_bail("another call than getpid");
		tracer_step(pid, PTRACE_SYSCALL);
	}
}

/* The tracer reads the registers and says what the call gives, which is never made. */
__attribute__((unused)) static void tracer_emulate(unsigned int n, void *arg)
{
	pid_t pid = *(pid_t *)arg;

	for (unsigned int i = 0; i < n; i++) {
		struct user_regs_struct regs;

		tracer_step(pid, PTRACE_SYSEMU);
		regs = tracer_regs(pid);
		if (regs.orig_rax != SYS_getpid)
			ktap_bail("another call than getpid");
		regs.rax = 1;
		ptrace(PTRACE_SETREGS, pid, 0, &regs);
	}
}

__attribute__((unused)) static void tracer_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

#endif /* TESTS_TRACER_H */
