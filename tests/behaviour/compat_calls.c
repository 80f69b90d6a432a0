/* SPDX-License-Identifier: MIT */
/* dunelab: timeout=120 slow-bochs=13 */
/*
 * Functions under upstream's names: signal handlers with the interrupted registers,
 * dune_mmap(), dune_fpu_*(), rdmsrl(), and the other vendor's hypercall instruction.
 */
#include "../dune_test.h"

#include <libdune/cpu-x86.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>

static volatile int seen;
static volatile bool in_guest;
static volatile uint16_t seen_cs;

static void on_plain(int sig)
{
	in_guest = dune_in_guest();
	seen = sig;
}

/* Skips a UD2, and answers in a register. */
static void on_ill(struct dune_tf *tf)
{
	in_guest = dune_in_guest();
	seen_cs = tf->cs;
	seen = (int)tf->rbx;
	tf->rbx = 99;
	tf->rip += 2;
	errno = EXDEV;
}

static void signals(void)
{
	uint64_t rbx = 55;

	ktap_ok(dune_signal(SIGUSR1, on_plain) == NULL, "dune_signal()");
	ktap_ok(dune_signal(SIGUSR1, on_plain) == NULL, "does not return the handler before");
	kill(getpid(), SIGUSR1);
	ktap_ok(seen == SIGUSR1 && in_guest, "the handler runs before kill() returns, in Dune mode");
	ktap_ok(dune_signal(SIGKILL, on_plain) == SIG_ERR && errno == EINVAL, "not for SIGKILL");
	ktap_eq(dune_register_signal_handler(0, on_ill), -EINVAL, "signal 0");
	ktap_eq(dune_register_signal_handler(65, on_ill), -EINVAL, "signal 65");
	ktap_eq(dune_register_signal_handler(SIGSTOP, on_ill), -EINVAL, "SIGSTOP");

	ktap_eq(dune_register_signal_handler(SIGILL, on_ill), 0, "a handler with a frame");
	errno = 0;
	asm volatile("ud2" : "+b"(rbx));
	ktap_ok(seen == 55 && rbx == 99, "it sees the registers, and changes them");
	ktap_ok(in_guest && seen_cs == GD_KT, "in Dune mode");
	ktap_eq(errno, 0, "errno is kept");
	ktap_eq(dune_register_signal_handler(SIGILL, NULL), 0, "the default again");
	if (!fork()) {
		asm volatile("ud2");
		_exit(0);
	}
	wait((int *)&seen);
	ktap_ok(WIFSIGNALED(seen) && WTERMSIG(seen) == SIGILL, "which kills");
}

static void mapping(void)
{
	char *p = dune_mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ktap_ok((long)p > 0, "dune_mmap()");
	p[4096] = 1;
	ktap_eq((long)dune_mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), -EINVAL,
		"errors are values");
	munmap(p, 8192);
}

/* The registers, set and read where no compiler comes between. */
#define SET(value) \
	asm volatile("movq %0, %%xmm3\n	movq %0, %%xmm15\n" : : "r"(value) : "xmm3", "xmm15")

static uint64_t low_of(const struct fpu_area *a, int reg)
{
	uint64_t v;

	memcpy(&v, (const char *)a + 160 + 16 * reg, 8);
	return v;
}

static void fpu(void)
{
	static struct fpu_area a, b;
	struct { unsigned char before[64]; struct fpu_area area; unsigned char behind[64]; } *g;
	uint64_t got;
	uint32_t mxcsr;

	ktap_ok(sizeof(struct fpu_area) >= 2688 && sizeof(struct fpu_area) % 64 == 0 &&
		_Alignof(struct fpu_area) == 64, "the area takes AVX-512");
	memset(&a, 0xff, sizeof(a));
	SET(0x1111UL);
	dune_fpu_save_safe(&a);
	ktap_ok(low_of(&a, 3) == 0x1111 && low_of(&a, 15) == 0x1111, "registers are saved");
	memcpy(&b, &a, sizeof(b));
	SET(0x2222UL);
	dune_fpu_load(&b);
	asm volatile("movq %%xmm15, %0" : "=r"(got));
	ktap_eq(got, 0x1111, "and loaded");
	SET(0x3333UL);
	dune_fpu_save(&b);
	ktap_eq(low_of(&b, 15), 0x3333, "dune_fpu_save() into the area loaded from");
	dune_fpu_init(&b);
	dune_fpu_load(&b);
	asm volatile("movq %%xmm15, %0\n	stmxcsr %1" : "=r"(got), "=m"(mxcsr));
	ktap_ok(got == 0 && mxcsr == 0x1f80, "the initial state");

	g = aligned_alloc(64, sizeof(*g));
	memset(g, 0x5a, sizeof(*g));
	dune_fpu_save_safe(&g->area);
	got = 0;
	for (int i = 0; i < 64; i++)
		got += g->before[i] != 0x5a || g->behind[i] != 0x5a;
	ktap_eq(got, 0, "nothing beyond the area is written");
	free(g);
}

static void msrs(void)
{
	unsigned long gs, want;

	rdmsrl(MSR_GS_BASE, gs);
	ktap_ok(gs == *(unsigned long *)gs, "rdmsrl(MSR_GS_BASE)");
	want = (unsigned long)&seen;
	wrmsrl(MSR_GS_BASE, want);
	ktap_eq(native_read_msr(MSR_GS_BASE), want, "wrmsrl()");
	wrmsrl(MSR_GS_BASE, gs);
}

static volatile int alarms;

static void on_alarm(int sig)
{
	(void)sig;
	alarms++;
}

#define HYPERCALL(insn, nr, arg)						\
	({									\
		long ret_ = (nr);						\
		asm volatile("mov %[v], -64(%%rsp)\n	" insn			\
			     "\n	cmp %[v], -64(%%rsp)\n	je 1f\n	mov $-1000, %%rax\n1:" \
			     : "+a"(ret_) : "D"(arg), "S"(0L), "d"(0L), [v]"r"(0x1234L)	\
			     : "memory", "cc");					\
		ret_;								\
	})

static void hypercalls(void)
{
	static const struct itimerval often = { { 0, 300000 }, { 0, 300000 } }, never;
	struct sigaction act = { .sa_handler = on_alarm };

	ktap_eq(HYPERCALL("vmcall", SYS_getpid, 0L), getpid(), "VMCALL in the program");
	ktap_eq(HYPERCALL("vmmcall", SYS_getpid, 0L), getpid(), "VMMCALL in the program");
	ktap_eq(HYPERCALL("vmcall", SYS_close, -1L), -EBADF, "an error");
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &often, NULL);	/* the first may come before the call */
	ktap_eq(HYPERCALL("vmcall", SYS_pause, 0L), -EINTR, "a signal ends VMCALL");
	ktap_eq(HYPERCALL("vmmcall", SYS_pause, 0L), -EINTR, "and VMMCALL");
	setitimer(ITIMER_REAL, &never, NULL);
	ktap_ok(alarms >= 2, "and was handled");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 29 + DUNE_TEST_LEAVE);
	dune_test_enter();
	signals();
	mapping();
	fpu();
	msrs();
	hypercalls();
	return dune_test_done();
}
