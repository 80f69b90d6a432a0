/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Signals reach a thread in Dune mode as they reach any thread: the handler
 * runs there, in ring 0, on a frame that Linux could have built, and what it
 * changes in its ucontext is what the program continues with.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <sys/signalfd.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile unsigned int got, outside;
static volatile int last_sig, last_code, last_pid, last_value;
static volatile uint64_t seen_mask;

static uint64_t mask_now(void)
{
	uint64_t mask = 0;

	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, sizeof(mask));
	return mask;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	got++;
	outside += dune_test_cpl() != 0 || !dune_in_guest();
	last_sig = sig;
	last_code = info->si_code;
	last_pid = (int)info->si_pid;
	last_value = info->si_value.sival_int;
	seen_mask = mask_now();
}

static void handle_by(int sig, int flags, void (*fn)(int, siginfo_t *, void *), uint64_t mask)
{
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_sigaction = fn;
	act.sa_flags = SA_SIGINFO | flags;
	memcpy(&act.sa_mask, &mask, sizeof(mask));
	if (sigaction(sig, &act, NULL))
		ktap_bail("sigaction %d: %s", sig, strerror(errno));
	got = 0;
}

static void handle(int sig, int flags)
{
	handle_by(sig, flags, on_signal, 0);
}

#define BIT(sig) (1ULL << ((sig) - 1))

/* ---- masks and flags ---------------------------------------------------- */

static void flags(void)
{
	struct sigaction old;

	handle(SIGUSR1, 0);
	raise(SIGUSR1);
	ktap_ok(got == 1 && last_pid == getpid() && last_code == SI_TKILL,
		"raise() runs the handler before it returns");
	ktap_eq(seen_mask, BIT(SIGUSR1), "the signal is blocked meanwhile");
	ktap_eq(mask_now(), 0, "and not afterwards");

	handle_by(SIGUSR1, SA_NODEFER, on_signal, BIT(SIGUSR2) | BIT(SIGKILL));
	raise(SIGUSR1);
	ktap_eq(seen_mask, BIT(SIGUSR2), "SA_NODEFER and sa_mask");

	handle(SIGUSR1, SA_RESETHAND);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &old);
	ktap_ok(got == 1 && old.sa_handler == SIG_DFL &&
		(old.sa_flags & (SA_SIGINFO | SA_RESETHAND | SA_NODEFER)) ==
		(SA_SIGINFO | SA_RESETHAND) && !sigismember(&old.sa_mask, SIGUSR2),
		"SA_RESETHAND resets the handler and nothing else");

	handle(SIGUSR1, SA_RESTART | SA_ONSTACK);
	sigaction(SIGUSR1, NULL, &old);
	ktap_ok(old.sa_sigaction == on_signal &&
		(old.sa_flags & (SA_RESTART | SA_ONSTACK | SA_SIGINFO | SA_NODEFER)) ==
		(SA_RESTART | SA_ONSTACK | SA_SIGINFO),
		"sigaction() gives back what it was given");
	errno = 0;
	ktap_ok(syscall(SYS_rt_sigaction, SIGUSR1, 8UL, NULL, 8UL) == -1 && errno == EFAULT &&
		syscall(SYS_rt_sigaction, SIGUSR1, NULL, 8UL, 8UL) == -1 && errno == EFAULT &&
		syscall(SYS_rt_sigaction, 65, NULL, NULL, 8UL) == -1 && errno == EINVAL &&
		syscall(SYS_rt_sigaction, SIGKILL, &old, NULL, 8UL) == -1 && errno == EINVAL &&
		syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 7UL) == -1 && errno == EINVAL,
		"and refuses what it must");
}

static unsigned int order[64], orders;

static void on_order(int sig, siginfo_t *info, void *context)
{
	(void)context;
	order[orders++ % 64] = (unsigned int)(sig << 8) + (unsigned int)info->si_value.sival_int;
}

static void queued(void)
{
	uint64_t all = BIT(SIGRTMIN) | BIT(SIGRTMIN + 1), none = 0;
	union sigval v = { 0 };
	bool ok = true;

	handle_by(SIGRTMIN, 0, on_order, ~0ULL);
	handle_by(SIGRTMIN + 1, 0, on_order, ~0ULL);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	for (v.sival_int = 0; v.sival_int < 8; v.sival_int++) {
		sigqueue(getpid(), SIGRTMIN + 1, v);
		sigqueue(getpid(), SIGRTMIN, v);
	}
	ktap_eq(orders, 0, "blocked real-time signals wait");
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	for (unsigned int i = 0; i < 16; i++)
		ok &= order[i] == ((unsigned int)(SIGRTMIN + (i >= 8)) << 8) + i % 8;
	ktap_ok(ok && orders == 16, "and come in order, each with its value");
}

static void waiting(void)
{
	uint64_t usr2 = BIT(SIGUSR2), none = 0, pending = 0;
	struct timespec second = { 1, 0 };
	struct signalfd_siginfo si;
	sigset_t set;
	siginfo_t info;
	int fd;

	handle(SIGUSR2, 0);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &usr2, NULL, 8);
	raise(SIGUSR2);
	syscall(SYS_rt_sigpending, &pending, 8);
	ktap_ok(got == 0 && pending == usr2, "sigpending sees a blocked signal");
	errno = 0;
	ktap_ok(syscall(SYS_rt_sigsuspend, &none, 8) == -1 && errno == EINTR && got == 1 &&
		seen_mask == usr2 && mask_now() == usr2,
		"sigsuspend lets it in and puts the mask back");

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	raise(SIGUSR2);
	ktap_ok(sigtimedwait(&set, &info, &second) == SIGUSR2 && info.si_pid == getpid() && got == 1,
		"sigtimedwait takes it");
	fd = signalfd(-1, &set, SFD_CLOEXEC);
	raise(SIGUSR2);
	ktap_ok(read(fd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR2 && got == 1,
		"signalfd reads it");
	close(fd);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
	ktap_eq(got, 1, "no handler saw those");
}

/* ---- stacks ------------------------------------------------------------- */

static char alternate[65536] __attribute__((aligned(16)));
static volatile int on_alternate, nested_on, busy;

static bool inside(const void *p)
{
	return (const char *)p >= alternate && (const char *)p < alternate + sizeof(alternate);
}

static void on_nested(int sig, siginfo_t *info, void *context)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = 0 }, now;
	int local;

	(void)info;
	(void)context;
	on_alternate += inside(&local);
	sigaltstack(NULL, &now);
	nested_on += !!(now.ss_flags & SS_ONSTACK);
	busy += sigaltstack(&st, NULL) == -1 && errno == EPERM;
	if (sig == SIGUSR1)
		raise(SIGUSR2);
}

static void stacks(void)
{
	stack_t st = { .ss_sp = alternate, .ss_size = sizeof(alternate), .ss_flags = 0 }, old;

	ktap_ok(sigaltstack(&st, &old) == 0 && old.ss_flags == SS_DISABLE &&
		sigaltstack(NULL, &old) == 0 && old.ss_sp == alternate &&
		old.ss_size == sizeof(alternate) && old.ss_flags == 0, "sigaltstack");
	st.ss_size = 100;
	ktap_ok(sigaltstack(&st, NULL) == -1 && errno == ENOMEM, "refuses a small one");
	handle_by(SIGUSR1, SA_ONSTACK, on_nested, 0);
	handle_by(SIGUSR2, SA_ONSTACK, on_nested, 0);
	raise(SIGUSR1);
	ktap_ok(on_alternate == 2 && nested_on == 2 && busy == 2,
		"two nested handlers share it, and it cannot be changed meanwhile");
	st.ss_flags = SS_DISABLE;
	sigaltstack(&st, NULL);
}

static sigjmp_buf out;

static void on_jump(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)info;
	(void)context;
	siglongjmp(out, 1);
}

static void jumps(void)
{
	volatile unsigned int times = 0;

	handle_by(SIGUSR1, 0, on_jump, BIT(SIGUSR2));
	while (times < 1000) {
		if (sigsetjmp(out, 1) == 0)
			raise(SIGUSR1);
		else
			times++;
	}
	ktap_ok(mask_now() == 0 && dune_test_cpl() == 0, "a thousand handlers leave by siglongjmp");
}

/* ---- ucontext ----------------------------------------------------------- */

static void on_edit(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	uc->uc_mcontext.gregs[REG_R12] = 0x1212;
	uc->uc_mcontext.gregs[REG_RIP] = uc->uc_mcontext.gregs[REG_R13];
	if (uc->uc_mcontext.fpregs)
		memset(&uc->uc_mcontext.fpregs->_xmm[7], 0x77, 16);
	sigaddset(&uc->uc_sigmask, SIGWINCH);
}

static void edits(void)
{
	unsigned long r12 = 0, pid = (unsigned long)getpid(), tid = (unsigned long)gettid();
	uint64_t xmm[2] = { 0, 0 };

	handle_by(SIGUSR1, 0, on_edit, 0);
	asm volatile("leaq 2f(%%rip), %%r13\n\t"
		     "movl %[nr], %%eax\n\t"
		     "syscall\n"
		     "1:	jmp 1b\n"	/* only the handler leads out */
		     "2:	movq %%r12, %[r12]\n\t"
		     "movups %%xmm7, %[xmm]"
		     : [r12] "=r"(r12), [xmm] "=m"(xmm)
		     : [nr] "i"(SYS_tgkill), "D"(pid), "S"(tid), "d"(SIGUSR1)
		     : "rax", "rcx", "r11", "r12", "r13", "xmm7", "memory");
	ktap_ok(r12 == 0x1212 && xmm[0] == 0x7777777777777777UL && xmm[1] == xmm[0],
		"registers, rip and xmm7 of the ucontext are honoured");
	ktap_eq(mask_now(), BIT(SIGWINCH), "and so is its mask");
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &(uint64_t){ 0 }, NULL, 8);
}

/* ---- asynchronous ------------------------------------------------------- */

static void on_clobber(int sig, siginfo_t *info, void *context)
{
	on_signal(sig, info, context);
	asm volatile("pcmpeqd %%xmm9, %%xmm9\n\t" "pcmpeqd %%xmm15, %%xmm15" ::: "xmm9", "xmm15");
}

/* Spins in guest mode with known registers until @want signals came. */
static bool registers_survive(unsigned int want)
{
	double end = child_now() + 20;
	bool ok = true;

	while (got < want && child_now() < end) {
		unsigned long loops = 2000000, r8 = 0x8888, r15 = 0xffff;
		double x = 1.25, y = 0;

		asm volatile("movsd %[x], %%xmm9\n\t"
			     "movq %[r8], %%r8\n\t" "movq %[r15], %%r15\n"
			     "1:	movq %%r8, -128(%%rsp)\n\t"
			     "decq %[loops]\n\t"
			     "cmpq %%r8, -128(%%rsp)\n\t" "jne 2f\n\t"
			     "testq %[loops], %[loops]\n\t" "jnz 1b\n"
			     "2:	movq %%r8, %[r8]\n\t" "movq %%r15, %[r15]\n\t"
			     "movsd %%xmm9, %[y]"
			     : [loops] "+r"(loops), [r8] "+m"(r8), [r15] "+m"(r15), [y] "=m"(y)
			     : [x] "m"(x) : "r8", "r15", "xmm9", "cc", "memory");
		ok &= r8 == 0x8888 && r15 == 0xffff && y == x && !loops;
	}
	return ok && got >= want;
}

static int bystander(void *arg)
{
	(void)arg;
	return child_asleep(getppid()) ? kill(getppid(), SIGUSR2) : 1;
}

static void asynchronous(struct child *other)
{
	struct itimerval tick = { { 0, 10000 }, { 0, 10000 } }, off = { { 0, 0 }, { 0, 0 } };
	struct timespec nap = { 5, 0 };
	int pipes[2], status;
	char byte;

	handle_by(SIGALRM, SA_RESTART, on_clobber, 0);
	setitimer(ITIMER_REAL, &tick, NULL);
	ktap_ok(registers_survive(20),
		"twenty alarms in a busy loop leave registers and red zone alone");
	setitimer(ITIMER_REAL, &off, NULL);

	handle(SIGUSR2, 0);
	child_go(other);
	errno = 0;
	ktap_ok(nanosleep(&nap, &nap) == -1 && errno == EINTR && got == 1 && last_pid == other->pid,
		"a signal of another process interrupts nanosleep");
	ktap_eq(child_wait(other), 0, "which ends well");

	if (pipe(pipes))
		ktap_bail("pipe: %s", strerror(errno));
	handle(SIGALRM, SA_RESTART);
	/* Again and again: the first may come before the call. */
	tick = (struct itimerval) { { 0, 20000 }, { 0, 20000 } };
	setitimer(ITIMER_REAL, &tick, NULL);
	if (fork() == 0) {	/* writes after the alarm */
		usleep(200000);
		_exit(write(pipes[1], "x", 1) == 1 ? 0 : 1);
	}
	ktap_ok(read(pipes[0], &byte, 1) == 1 && got >= 1, "SA_RESTART restarts a read");
	setitimer(ITIMER_REAL, &off, NULL);
	handle(SIGCHLD, SA_RESTART);
	wait(&status);
	if (fork() == 0)
		_exit(7);
	wait(&status);
	ktap_ok(got >= 1 && last_sig == SIGCHLD && last_code == CLD_EXITED && WEXITSTATUS(status) == 7,
		"SIGCHLD says how the child ended");

	handle(SIGALRM, 0);
	setitimer(ITIMER_REAL, &tick, NULL);
	errno = 0;
	ktap_ok(read(pipes[0], &byte, 1) == -1 && errno == EINTR && got >= 1,
		"without it a read is interrupted");
	setitimer(ITIMER_REAL, &off, NULL);
	signal(SIGPIPE, SIG_IGN);
	close(pipes[0]);
	errno = 0;
	ktap_ok(write(pipes[1], "x", 1) == -1 && errno == EPIPE, "an ignored SIGPIPE is EPIPE");
}

int main(void)
{
	struct child other;

	ktap_plan(DUNE_TEST_ENTER + 28 + DUNE_TEST_LEAVE);
	other = child_start(bystander, NULL);
	dune_test_enter();
	signal(SIGCHLD, SIG_DFL);
	flags();
	queued();
	waiting();
	stacks();
	jumps();
	edits();
	asynchronous(&other);
	ktap_eq(outside, 0, "all handlers ran in Dune mode");
	return dune_test_done();
}
