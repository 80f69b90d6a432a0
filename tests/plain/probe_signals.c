// SPDX-License-Identifier: MIT
/*
 * Signals as Linux shows them: alternate stacks, frames that cannot be returned
 * to, masks, user dispatch.
 */
#include "probe.h"

#include <setjmp.h>
#include <stdint.h>
#include <sys/time.h>
#include <ucontext.h>

#define ALT_SIZE	65536

static void show_altstack(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	stack_t now;

	(void)sig;
	(void)info;
	sigaltstack(NULL, &now);
	say("in the handler %x, in the frame %x size %zu", (unsigned int)now.ss_flags,
	    (unsigned int)uc->uc_stack.ss_flags, uc->uc_stack.ss_size);
}

static void altstack(void)
{
	static const unsigned int flags[] = { 0, SS_ONSTACK, SS_DISABLE, 1U << 31,
					      1U << 31 | SS_ONSTACK, 4 };
	char *memory = mmap(NULL, ALT_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);

	handle(SIGUSR1, show_altstack, SA_ONSTACK);
	for (unsigned int i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		stack_t new = { .ss_sp = memory, .ss_size = ALT_SIZE, .ss_flags = (int)flags[i] };
		stack_t now;

		say("%x: %ld", flags[i], result(sigaltstack(&new, NULL)));
		raise(SIGUSR1);
		sigaltstack(NULL, &now);
		say("then %x size %zu", (unsigned int)now.ss_flags, now.ss_size);
	}
}

static sigjmp_buf out;

static void leave_handler(int sig, siginfo_t *info, void *context)
{
	(void)context;
	say("signal %d code %d", sig, info->si_code);
	siglongjmp(out, 1);
}

/* A stack that takes no frame is a SIGSEGV, for which there may be another stack. */
static void altstack_too_small(void)
{
	char *memory = mmap(NULL, 2 * ALT_SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t new = { .ss_sp = memory + ALT_SIZE, .ss_size = ALT_SIZE };

	mprotect(memory, 2 * ALT_SIZE, PROT_READ);
	say("refused memory: %ld", result(sigaltstack(&new, NULL)));
	handle(SIGSEGV, leave_handler, 0);
	handle(SIGUSR1, show_altstack, SA_ONSTACK);
	for (int i = 0; i < 3; i++)
		if (!sigsetjmp(out, 1))
			raise(SIGUSR1);
	handle(SIGSEGV, leave_handler, SA_ONSTACK);
	if (!sigsetjmp(out, 1))
		raise(SIGUSR1);
}

#define STORM	2000

static volatile int stormed;

static void count_storm(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	stormed |= 1 << (sig == SIGSEGV ? 0 : sig == SIGBUS ? 1 : 2);
}

/*
 * Sent by somebody, at any moment, while others are being delivered; each by a process of
 * its own, so that on several CPUs they come faster than their handlers can begin.
 */
static void faults_sent(void)
{
	static const int sigs[] = { SIGUSR1, SIGSEGV, SIGBUS };
	pid_t me = getpid();
	sigset_t mask;
	int senders = 0;

	for (unsigned int i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		handle(sigs[i], count_storm, 0);
	for (unsigned int i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++) {
		if (!fork()) {
			for (int n = 0; n < STORM; n++)
				kill(me, sigs[i]);
			_exit(0);
		}
		senders++;
	}
	while (senders)
		senders -= waitpid(-1, NULL, WNOHANG) > 0;
	say("survived, seen %x", (unsigned int)stormed);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int sig = 1; sig <= 64; sig++)
		if (sigismember(&mask, sig) > 0)
			say("signal %d is blocked", sig);
}

/* ---- frames ----------------------------------------------------------- */

static void spoil_cs(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_CSGSFS] = 0x10;
}

static void spoil_rip(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_RIP] = 1LL << 47;
}

/* si_code is left out: emulators disagree about what kind of fault it is. */
static void refused(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	sigset_t mask;

	(void)info;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	say("signal %d, rip %llx, USR2 %s", sig, uc->uc_mcontext.gregs[REG_RIP] & 0xffff800000000000,
	    sigismember(&mask, SIGUSR2) ? "blocked" : "open");
	siglongjmp(out, 1);
}

static void bad_frame(void (*spoil)(int, siginfo_t *, void *))
{
	sigset_t usr2;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	sigprocmask(SIG_BLOCK, &usr2, NULL);
	handle(SIGUSR1, spoil, 0);
	handle(SIGSEGV, refused, 0);
	if (!sigsetjmp(out, 1)) {
		raise(SIGUSR1);
		say("went on");
	}
	/* Blocked in the frame: nobody can handle it. */
	sigaddset(&usr2, SIGSEGV);
	sigprocmask(SIG_BLOCK, &usr2, NULL);
	raise(SIGUSR1);
	say("went on");
}

static void bad_cs(void)
{
	bad_frame(spoil_cs);
}

static void bad_rip(void)
{
	bad_frame(spoil_rip);
}

/* ---- INT instructions that no program may use ------------------------- */

/* Without the error code: QEMU has another than the CPUs. */
static void on_int(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const unsigned char *code = (const unsigned char *)uc->uc_mcontext.gregs[REG_RIP];

	say("signal %d, code %d, trap %lld, at int %d: %d", sig, info->si_code,
	    uc->uc_mcontext.gregs[REG_TRAPNO], code[1], code[0] == 0xcd);
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

static void software_interrupts(void)
{
	handle(SIGSEGV, on_int, 0);
	asm volatile("int $2\n\tint $8\n\tint $10\n\tint $13\n\tint $14\n\tint $17\n\t"
		     "int $20\n\tint $30\n\tint $32\n\tint $255" : : : "memory");
}

/* ---- masks ------------------------------------------------------------ */

#define ROUNDS	3000

static volatile sig_atomic_t alarms;

static void count(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	alarms++;
}

/* Calls that look into the program's own state, while a timer interrupts them. */
static void masks(void)
{
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	int lost = 0, rounds;
	sigset_t usr2, mask;

	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	handle(SIGALRM, count, SA_RESTART);
	raise(SIGALRM);
	setitimer(ITIMER_REAL, &often, NULL);
	for (rounds = 0; rounds < ROUNDS || (alarms < 20 && rounds < 100 * ROUNDS); rounds++) {
		sigprocmask(SIG_BLOCK, &usr2, NULL);
		for (int i = 0; i < 10; i++) {
			struct sigaction act;

			sigaction(SIGUSR1, NULL, &act);
			sigaction(SIGUSR1, &act, NULL);
		}
		sigprocmask(SIG_UNBLOCK, &usr2, &mask);
		lost += !sigismember(&mask, SIGUSR2);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	say("%d masks lost, alarms %s", lost, alarms >= 20 ? "came" : "did not come");
}

/* ---- system-call user dispatch ---------------------------------------- */

static volatile char selector;

static long own_call(long nr, long arg)
{
	long ret;

	asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(arg) : "rcx", "r11", "memory");
	return ret;
}

static void dispatched(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	selector = SYSCALL_DISPATCH_FILTER_ALLOW;
	say("signal %d, code %d, call %d, arch %x, errno %d, rax %lld, behind it: %d", sig,
	    info->si_code, info->si_syscall, info->si_arch, info->si_errno,
	    uc->uc_mcontext.gregs[REG_RAX],
	    (uint64_t)info->si_call_addr == (uint64_t)uc->uc_mcontext.gregs[REG_RIP]);
	uc->uc_mcontext.gregs[REG_RAX] = 4711;
}

static long dispatch(unsigned long mode, unsigned long offset, unsigned long len, void *byte)
{
	return result(prctl(PR_SET_SYSCALL_USER_DISPATCH, mode, offset, len, byte));
}

static void user_dispatch(void)
{
	static const long calls[] = { SYS_getpid, SYS_rt_sigaction, SYS_close, 5000, SYS_pause };
	long ret;

	handle(SIGSYS, dispatched, 0);
	say("refused: %ld %ld %ld %ld", dispatch(2, 0, 0, NULL), dispatch(0, 1, 0, NULL),
	    dispatch(1, 8, 0, NULL), dispatch(1, 0, 0, (void *)(1UL << 63)));
	say("on: %ld", dispatch(PR_SYS_DISPATCH_ON, 0, 0, (void *)&selector));
	say("let pass: %d", own_call(SYS_getpid, 0) == getpid());
	for (unsigned int i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		selector = SYSCALL_DISPATCH_FILTER_BLOCK;
		ret = own_call(calls[i], -1);
		say("%ld: %ld", calls[i], ret);
	}
	if (!fork()) {		/* not inherited */
		selector = SYSCALL_DISPATCH_FILTER_BLOCK;
		_exit(own_call(SYS_getpid, 0) == getpid() ? 3 : 4);
	}
	waitpid(-1, (int *)&ret, 0);
	say("child: %x", (unsigned int)ret);
	say("a range, all of it: %ld", dispatch(PR_SYS_DISPATCH_ON, 1, ~0UL - 1, (void *)&selector));
	selector = SYSCALL_DISPATCH_FILTER_BLOCK;
	say("in the range: %d", own_call(SYS_getpid, 0) == getpid());
	say("off: %ld", dispatch(PR_SYS_DISPATCH_OFF, 0, 0, NULL));
	say("no more: %d", own_call(SYS_getpid, 0) == getpid());
	dispatch(PR_SYS_DISPATCH_ON, 0, 0, (void *)&selector);
	selector = 2;
	own_call(SYS_getpid, 0);
}

/* A blocking call that is let pass is interrupted like any other. */
static void dispatch_interrupted(void)
{
	/* Again and again: the first may come before the call. */
	struct itimerval soon = { { 0, 100000 }, { 0, 100000 } }, never = { { 0, 0 }, { 0, 0 } };
	long ret;

	handle(SIGALRM, count, 0);
	dispatch(PR_SYS_DISPATCH_ON, 0, 0, (void *)&selector);
	setitimer(ITIMER_REAL, &soon, NULL);
	ret = own_call(SYS_pause, 0);
	setitimer(ITIMER_REAL, &never, NULL);
	say("pause: %ld, alarms %s", ret, alarms ? "came" : "did not come");
}

static const struct probe probes[] = {
	{ "alternate stack", altstack },
	{ "alternate stack that takes no frame", altstack_too_small },
	{ "faults sent", faults_sent },
	{ "code segment in the frame", bad_cs },
	{ "instruction pointer in the frame", bad_rip },
	{ "software interrupts", software_interrupts },
	{ "masks", masks },
	{ "user dispatch", user_dispatch },
	{ "user dispatch, interrupted", dispatch_interrupted },
	{ NULL, NULL },
};

int main(void)
{
	return probe_all(probes);
}
