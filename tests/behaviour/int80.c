/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 slow-bochs=10 */
/*
 * int $0x80 in 64-bit code is a 32-bit system call, in Dune mode too: arguments,
 * registers, restarts, children, filters; a handler of the program's wins.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/time.h>
#include <ucontext.h>

/* Numbers of i386. */
#define I386_exit	1
#define I386_fork	2
#define I386_read	3
#define I386_close	6
#define I386_getpid	20
#define I386_rt_sigaction 174
#define I386_mmap2	192
#define I386_clone	120
#define I386_vfork	190
#define I386_clock_nanosleep_time64 407

static char *low;	/* memory that 32-bit arguments can name */

static long int80(long nr, long b, long c, long d, long s, long di, long bp)
{
	long ret;

	asm volatile("push %%rbp\n\tmov %[bp], %%rbp\n\tint $0x80\n\tpop %%rbp"
		     : "=a"(ret) : "a"(nr), "b"(b), "c"(c), "d"(d), "S"(s), "D"(di),
		       [bp] "r"(bp) : "memory");
	return ret;
}

#define INT80(nr, b, c) int80(nr, (long)(b), (long)(c), 0, 0, 0, 0)

static bool six_arguments(void)
{
	int fd = memfd_create("six", MFD_CLOEXEC);
	char text[] = "second page";
	long at;

	if (pwrite(fd, text, sizeof(text), 4096) != sizeof(text))
		return false;
	at = int80(I386_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 1);
	close(fd);
	ktap_note("mmap2: 0x%lx", at);
	return at > 0 && at < 1L << 32 && !strcmp((const char *)at, text);
}

/* The registers that the call does not name, and those it does, all keep their values. */
static bool registers_stay(void)
{
	static const uint64_t magic = 0x1122334455667788;
	uint64_t regs[16] = { 0 }, xmm[2] = { 1, 2 }, flags = 0;
	unsigned int wrong = 0;

	asm volatile("push %%rbp\n\t"
		     "movq %[magic], %%xmm7\n\t"
		     "mov %[regs], %%r15\n\t"
		     "mov %[magic], %%r8\n\t"
		     "lea 1(%%r8), %%r9\n\tlea 2(%%r8), %%r10\n\tlea 3(%%r8), %%r11\n\t"
		     "lea 4(%%r8), %%r12\n\tlea 5(%%r8), %%r13\n\tlea 6(%%r8), %%r14\n\t"
		     "lea 7(%%r8), %%rbx\n\tlea 8(%%r8), %%rcx\n\tlea 9(%%r8), %%rdx\n\t"
		     "lea 10(%%r8), %%rsi\n\tlea 11(%%r8), %%rdi\n\tlea 12(%%r8), %%rbp\n\t"
		     "mov $20, %%eax\n\t"
		     "stc\n\t"
		     "int $0x80\n\t"
		     "mov %%r8, (%%r15)\n\tmov %%r9, 8(%%r15)\n\tmov %%r10, 16(%%r15)\n\t"
		     "mov %%r11, 24(%%r15)\n\tmov %%r12, 32(%%r15)\n\tmov %%r13, 40(%%r15)\n\t"
		     "mov %%r14, 48(%%r15)\n\tmov %%rbx, 56(%%r15)\n\tmov %%rcx, 64(%%r15)\n\t"
		     "mov %%rdx, 72(%%r15)\n\tmov %%rsi, 80(%%r15)\n\tmov %%rdi, 88(%%r15)\n\t"
		     "mov %%rbp, 96(%%r15)\n\tmov %%rax, 104(%%r15)\n\t"
		     "pop %%rbp\n\t"
		     "pushfq\n\tpop %%rax\n\tmov %%rax, 112(%%r15)\n\t"
		     "movq %%xmm7, 120(%%r15)"
		     : : [magic] "m"(magic), [regs] "r"(regs)
		     : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
		       "r13", "r14", "r15", "xmm7", "memory", "cc");
	(void)xmm;
	flags = regs[14];
	for (unsigned int i = 0; i < 13; i++)
		wrong += regs[i] != magic + i;
	ktap_note("wrong: %u, rax %llu, flags 0x%llx", wrong, (unsigned long long)regs[13],
		  (unsigned long long)flags);
	return !wrong && regs[13] == (uint64_t)getpid() && flags & 1 && regs[15] == magic;
}

/* The instruction needs no stack. */
static bool without_a_stack(void)
{
	long ret;

	asm volatile("mov %%rsp, %%r12\n\txor %%esp, %%esp\n\tint $0x80\n\tmov %%r12, %%rsp"
		     : "=a"(ret) : "a"((long)I386_getpid) : "r12", "memory");
	return ret == getpid();
}

static volatile unsigned long alarms, seen_rip, read_at;
static volatile bool wrote;
static int wake[2];

static void on_alarm(int sig, siginfo_t *info, void *uc)
{
	unsigned long rip = (unsigned long)((ucontext_t *)uc)->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	(void)info;
	alarms++;
	/* One that comes before the read: the next may come into it. */
	if (!wrote && rip - read_at <= 2) {
		seen_rip = rip;
		wrote = true;
		if (write(wake[1], "x", 1) != 1)
			_exit(1);
	}
}

static void handle_alarm(int flags)
{
	struct sigaction sa = { .sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | flags };

	alarms = 0;
	sigaction(SIGALRM, &sa, NULL);
}

/* A read of an empty pipe that an alarm comes into, which fills the pipe. */
static long read_with_alarm(int flags, unsigned long *insn)
{
	struct itimerval soon = { { 0, 50000 }, { 0, 50000 } }, off = { 0 };
	long ret;

	if (pipe(wake))
		return -1;
	wrote = false;
	handle_alarm(flags);
	setitimer(ITIMER_REAL, &soon, NULL);
	asm volatile("lea 1f(%%rip), %[insn]\n\tmov %[insn], %[at]\n1:\tint $0x80"
		     : "=a"(ret), [insn] "=&r"(*insn), [at] "=m"(read_at)
		     : "a"((long)I386_read), "b"((long)wake[0]), "c"(low), "d"(1L) : "memory");
	setitimer(ITIMER_REAL, &off, NULL);
	close(wake[0]);
	close(wake[1]);
	return ret;
}

static void restarts(void)
{
	unsigned long insn;
	long ret = read_with_alarm(0, &insn);

	ktap_eq(ret, -EINTR, "a read that a handler interrupts ends with EINTR");
	ktap_eq((long)(seen_rip - insn), 2, "the handler came behind the instruction");
	ret = read_with_alarm(SA_RESTART, &insn);
	ktap_eq(ret, 1, "with SA_RESTART it goes on");
	ktap_eq((long)(seen_rip - insn), 0, "the handler came in front of the instruction");
}

/* Alarms at any moment: none is lost and no call goes wrong. */
static bool under_alarms(void)
{
	struct itimerval often = { { 0, 500 }, { 0, 500 } }, off = { 0 };
	unsigned long wrong = 0, calls = 0;
	double start = child_now();
	long pid = getpid();

	wrote = true;
	handle_alarm(SA_RESTART);
	setitimer(ITIMER_REAL, &often, NULL);
	while (alarms < 200 && child_now() - start < 60) {
		wrong += INT80(I386_getpid, 0, 0) != pid;
		calls++;
	}
	setitimer(ITIMER_REAL, &off, NULL);
	ktap_note("%lu alarms in %lu calls, %lu wrong", alarms, calls, wrong);
	return alarms >= 200 && !wrong;
}

static int wait_status(pid_t pid)
{
	int status = -1;

	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
}

/* fork, exit: children stay in Dune mode. */
static bool children(long nr)
{
	volatile long pid = nr == I386_clone ? INT80(nr, SIGCHLD, 0) : INT80(nr, 0, 0);

	if (!pid)
		INT80(I386_exit, dune_test_cpl() == 0 ? 7 : 8, 0);
	return wait_status((pid_t)pid) == 7 << 8;
}

/* A stop in the middle of a sleep: the kernel goes on with what is left of it. */
static bool sleep_through_stop(void)
{
	struct { int64_t sec, nsec; } *ts = (void *)low;
	struct child_gate gate = child_gate();
	pid_t pid = fork();
	double start = child_now();
	bool slept;
	int status;

	if (pid == 0) {
		ts->sec = 0;
		ts->nsec = 400000000;
		slept = int80(I386_clock_nanosleep_time64, CLOCK_MONOTONIC, 0, (long)ts, 0, 0,
			      0) == 0 && child_now() - start >= 0.4;
		child_at_gate(gate);
		_exit(slept ? 0 : 1);
	}
	usleep(100000);
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	kill(pid, SIGCONT);
	child_open_gate(gate);
	return wait_status(pid) == 0;
}

/* A filter sees a call of the other architecture. */
static bool filtered(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };
	pid_t pid = fork();

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(2);
		_exit(INT80(I386_getpid, 0, 0) == -77 && getpid() > 0 ? 0 : 1);
	}
	return wait_status(pid) == 0;
}

static volatile unsigned int handled;

static void on_vector_128(struct dune_tf *tf)
{
	handled++;
	tf->rax = 4711;
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 19 + DUNE_TEST_LEAVE);
	dune_test_enter();
	low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1,
		   0);

	ktap_eq(INT80(I386_getpid, 0, 0), getpid(), "getpid");
	ktap_eq(INT80(100000, 0, 0), -ENOSYS, "no such call");
	ktap_ok(six_arguments(), "six arguments");
	ktap_ok(registers_stay(), "all registers but rax stay");
	ktap_ok(without_a_stack(), "without a stack");
	restarts();
	ktap_ok(under_alarms(), "under alarms");
	ktap_ok(children(I386_fork), "fork, exit");
	ktap_ok(children(I386_vfork), "vfork, exit");
	ktap_ok(children(I386_clone), "clone, exit");
	ktap_ok(sleep_through_stop(), "a sleep goes on after a stop");
	ktap_ok(filtered(), "a filter sees a call of i386");
	ktap_eq(INT80(I386_close, dune_fd, 0), -EBADF, "libdune's descriptors are not open");
	ktap_eq(INT80(I386_rt_sigaction, SIGUSR1, 0), -ENOSYS, "a 32-bit handler is refused");

	dune_register_intr_handler(128, on_vector_128);
	ktap_ok(INT80(I386_getpid, 0, 0) == 4711 && handled == 1, "a handler of the program's wins");
	dune_register_intr_handler(128, NULL);
	ktap_eq(INT80(I386_getpid, 0, 0), getpid(), "without it, the call again");
	return dune_test_done();
}
