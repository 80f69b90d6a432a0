// SPDX-License-Identifier: MIT
/*
 * A process that asks to be traced is seen as it is: its instructions, registers
 * and system calls.
 */
#include "probe.h"

#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#define MARK	0x1122334455667788UL
#define ALT_SIZE	65536

static volatile double vector = 1.5;

/* The mark is in r15 and xmm7 when SIGSTOP comes. */
static void stop_with_marks(void)
{
	unsigned long r15 = 0, xmm7 = 0;

	asm volatile("mov %[mark], %%r15\n\tmovq %[mark], %%xmm7\n\tsyscall\n\t"
		     "mov %%r15, %[r15]\n\tmovq %%xmm7, %[xmm7]\n\t"
		     : [r15] "=&m"(r15), [xmm7] "=&m"(xmm7)
		     : [mark] "r"(MARK), "a"(SYS_kill), "D"(getpid()), "S"(SIGSTOP)
		     : "rcx", "r11", "r15", "xmm7", "memory");
	say("in the child: r15 %lx, xmm7 %lx", r15, xmm7);
}

static pid_t traced(void (*fn)(void))
{
	pid_t pid = fork();

	if (!pid) {
		say("TRACEME: %ld", result(ptrace(PTRACE_TRACEME, 0, 0, 0)));
		fn();
		_exit(7);
	}
	return pid;
}

static void end(pid_t pid)
{
	int status;

	for (int i = 0; i < 20; i++) {
		if (ptrace(PTRACE_CONT, pid, 0, 0))
			break;
		status = status_of(pid);
		say("continued: %x", (unsigned int)status);
		if (!WIFSTOPPED(status))
			return;
	}
}

static void registers(void)
{
	struct user_fpregs_struct fp;
	struct user_regs_struct r;
	pid_t pid = traced(stop_with_marks);

	say("stop %x", (unsigned int)status_of(pid));
	ptrace(PTRACE_GETREGS, pid, 0, &r);
	ptrace(PTRACE_GETFPREGS, pid, 0, &fp);
	say("r15 %llx, xmm7 %x %x, cs %llx, ss %llx, nr %llu", r.r15, fp.xmm_space[28],
	    fp.xmm_space[29], r.cs, r.ss, r.orig_rax);
	say("in its own code: %d",
	    r.rip - (uintptr_t)stop_with_marks < 4096 || (uintptr_t)stop_with_marks - r.rip < 4096);
	r.r15++;
	say("SETREGS: %ld", result(ptrace(PTRACE_SETREGS, pid, 0, &r)));
	end(pid);
}

static void make_calls(void)
{
	raise(SIGSTOP);
	syscall(SYS_getppid);
	syscall(SYS_dup, -1);
	syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 8);
}

static void calls(void)
{
	struct user_regs_struct r;
	pid_t pid = traced(make_calls);
	int status = status_of(pid);

	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
	for (int i = 0; i < 20; i++) {
		ptrace(PTRACE_SYSCALL, pid, 0, 0);
		status = status_of(pid);
		if (!WIFSTOPPED(status))
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &r);
		say("stop %x, number %lld", (unsigned int)status, r.orig_rax);
	}
	say("end %x", (unsigned int)status);
}

static void trap(void)
{
	asm volatile("int3\n\tnop");
	raise(SIGSTOP);
}

static void breakpoint(void)
{
	struct user_regs_struct r;
	siginfo_t info;
	pid_t pid = traced(trap);
	int status;

	say("stop %x", (unsigned int)status_of(pid));
	ptrace(PTRACE_GETREGS, pid, 0, &r);
	ptrace(PTRACE_GETSIGINFO, pid, 0, &info);
	say("code %d, behind the breakpoint: %d", info.si_code,
	    r.rip - (uintptr_t)trap < 64);
	ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
	status = status_of(pid);
	ptrace(PTRACE_GETREGS, pid, 0, &r);
	say("step %x, one byte on: %d", (unsigned int)status, r.rip - (uintptr_t)trap < 64);
	end(pid);
}

/* ---- signals, as before ----------------------------------------------- */

static char alt[ALT_SIZE];

static void on_signal(int sig, siginfo_t *info, void *context)
{
	char here;

	(void)context;
	say("signal %d, code %d, on the alternate stack: %d", sig, info->si_code,
	    &here >= alt && &here < alt + sizeof(alt));
}

static void handlers(void)
{
	stack_t stack = { .ss_sp = alt, .ss_size = sizeof(alt) };
	sigset_t mask, before;

	/* All of it is from before, when the process was in Dune mode. */
	sigaltstack(NULL, &stack);
	sigprocmask(SIG_BLOCK, NULL, &before);
	say("stack of %zu, USR2 blocked: %d", stack.ss_size, sigismember(&before, SIGUSR2));
	sigpending(&mask);
	say("USR2 pending: %d, vector %.1f", sigismember(&mask, SIGUSR2), vector * 2);
	raise(SIGUSR1);
	raise(SIGSEGV);
	sigemptyset(&mask);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	if (!fork())
		_exit(3);
	say("its child: %x", (unsigned int)status_of(-1));
	execl("/bin/sh", "sh", "-c", "exit 5", NULL);
}

static void signals(void)
{
	stack_t stack = { .ss_sp = alt, .ss_size = sizeof(alt) };
	sigset_t usr2;
	pid_t pid;
	int status;

	sigaltstack(&stack, NULL);
	handle(SIGUSR1, on_signal, SA_ONSTACK);
	handle(SIGUSR2, on_signal, SA_ONSTACK);
	handle(SIGSEGV, on_signal, 0);
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr2, NULL);

	pid = fork();
	if (!pid) {
		raise(SIGUSR2);
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		handlers();
		_exit(7);
	}
	for (int i = 0; i < 20; i++) {
		status = status_of(pid);
		say("status %x", (unsigned int)status);
		if (!WIFSTOPPED(status))
			break;
		ptrace(PTRACE_CONT, pid, 0, WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status));
	}
}

static void vforked(void)
{
	pid_t pid = vfork();

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execl("/bin/sh", "sh", "-c", "exit 6", NULL);
		_exit(1);
	}
	say("vfork and exec: %x", (unsigned int)status_of(pid));
	end(pid);
	say("the parent goes on: %d", getppid() > 0);
}

static const struct probe probes[] = {
	{ "registers", registers },
	{ "calls", calls },
	{ "breakpoint", breakpoint },
	{ "signals", signals },
	{ "vfork", vforked },
	{ NULL, NULL },
};

int main(void)
{
	return probe_all(probes);
}
