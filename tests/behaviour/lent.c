/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=240 smp */
/*
 * What a vCPU borrows from its CPU between two exits (system-call MSRs,
 * KERNEL_GS_BASE, segments, the LDT, the limit of the TSS) is back whenever
 * another thread gets the CPU, in the middle of a call made in place too.
 *
 * A native process and a Dune process take turns on one CPU through two pipes:
 * the Dune process sleeps and wakes inside such calls.  Each looks at what it
 * owns at every turn; then they chase each other over both CPUs.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <pthread.h>
#include <sys/io.h>

#define TURNS		3000
#define SPINS		300
#define LDT_SELECTOR	7		/* entry 0, RPL 3 */
#define MSR_STAR	0xc0000081
#define MSR_LSTAR	0xc0000082
#define MSR_SFMASK	0xc0000084
#define MSR_KERNEL_GS	0xc0000102

static struct {
	volatile unsigned long turns, wrong_gs, wrong_fs, wrong_segment, wrong_call;
	volatile int ready;
} *native;

static int to_native[2], to_dune[2];

static int install_ldt(void)
{
	struct user_desc d = {
		.entry_number = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1,
		.useable = 1,
	};

	return (int)syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

static unsigned long base_of(int code)
{
	unsigned long base = 0;

	syscall(SYS_arch_prctl, code, &base);
	return base;
}

static unsigned int selector_of(int reg)
{
	unsigned short sel;

	switch (reg) {
	case 0:
		asm volatile("mov %%ds, %0" : "=r"(sel));
		break;
	case 1:
		asm volatile("mov %%es, %0" : "=r"(sel));
		break;
	default:
		asm volatile("mov %%gs, %0" : "=r"(sel));
		break;
	}
	return sel;
}

/*
 * Data segments in its LDT, a port, and by turns a GS base or a GS selector:
 * what it finds is what it left when it went to sleep.
 */
static void native_look(unsigned long turn, unsigned long fs)
{
	static unsigned long mark;
	unsigned long seen;

	native->wrong_segment += selector_of(0) != LDT_SELECTOR || selector_of(1) != LDT_SELECTOR;
	native->wrong_fs += base_of(ARCH_GET_FS) != fs;
	native->wrong_call += syscall(SYS_getpid) != getpid();
	outb(0, 0x80);		/* #GP where the TSS is cut short */
	if (turn & 1) {
		native->wrong_gs += selector_of(2) != LDT_SELECTOR;
		mark = turn;
		native->wrong_call += syscall(SYS_arch_prctl, ARCH_SET_GS, &mark) != 0;
	} else if (turn) {
		asm volatile("mov %%gs:0, %0" : "=r"(seen));
		native->wrong_gs += seen != turn - 1 || selector_of(2) != 0 ||
				    base_of(ARCH_GET_GS) != (unsigned long)&mark;
	}
	if (!(turn & 1))
		asm volatile("mov %0, %%gs" : : "r"(LDT_SELECTOR));
	native->turns++;
}

static int native_side(void *arg)
{
	unsigned long fs = base_of(ARCH_GET_FS);
	char byte;

	(void)arg;
	if (install_ldt() || ioperm(0x80, 1, 1))
		return 1;
	asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(LDT_SELECTOR));
	native->ready = 1;
	while (read(to_native[0], &byte, 1) == 1) {
		native_look(native->turns, fs);
		if (byte == 'q')
			return 0;
		if (write(to_dune[1], &byte, 1) != 1)
			return 1;
	}
	return 1;
}

static unsigned long rdmsr(unsigned int msr)
{
	unsigned int lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (unsigned long)hi << 32;
}

static void wrmsr(unsigned int msr, unsigned long val)
{
	asm volatile("wrmsr" : : "a"((unsigned int)val), "d"((unsigned int)(val >> 32)), "c"(msr));
}

static const unsigned int fixed_msrs[] = { MSR_STAR, MSR_LSTAR, MSR_SFMASK };
static unsigned long want[3];

/* The vCPU's own: three that nobody changed, one that changes at every turn. */
static unsigned int dune_look(unsigned long turn)
{
	unsigned long kernel_gs = 0x7000UL + turn * 16;
	unsigned int wrong = 0;

	for (int i = 0; i < 3; i++)
		wrong += rdmsr(fixed_msrs[i]) != want[i];
	if (turn)
		wrong += rdmsr(MSR_KERNEL_GS) != kernel_gs - 16;
	wrmsr(MSR_KERNEL_GS, kernel_gs);
	return wrong;
}

/* One turn: the calls are read() and write(), which are made in place. */
static bool give_turn(char byte)
{
	return write(to_native[1], &byte, 1) == 1 && read(to_dune[0], &byte, 1) == 1;
}

static unsigned int take_turns(unsigned long *turn, unsigned int n)
{
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < n; i++, (*turn)++) {
		wrong += dune_look(*turn);
		wrong += !give_turn('t');
		wrong += syscall(SYS_getpgid, 0) != getpgrp();	/* one through user space */
	}
	return wrong;
}

/*
 * A thread outside Dune mode gives the process its first LDT while the other
 * one is in guest mode on another CPU, and uses it where that one ran.
 */
static volatile int ldt_go, ldt_state;

static void *ldt_thread(void *arg)
{
	(void)arg;
	cpus_pin(0, 1);
	while (!ldt_go)
		;
	if (install_ldt())
		return NULL;
	ldt_state = 1;
	while (ldt_go == 1)
		;
	cpus_pin(0, 0);
	for (unsigned int i = 0; i < SPINS; i++) {
		asm volatile("mov %0, %%es; mov %1, %%es" : : "r"(LDT_SELECTOR), "r"(0));
		sched_yield();
	}
	ldt_state = 2;
	return NULL;
}

int main(void)
{
	unsigned long turn = 0;
	unsigned int wrong = 0;
	struct child child;
	pthread_t thread;

	ktap_plan(DUNE_TEST_ENTER + 9 + DUNE_TEST_LEAVE);
	if (cpus_count() < 2)
		ktap_bail("this test needs two CPUs");
	native = child_shared(sizeof(*native));
	if (pipe(to_native) || pipe(to_dune))
		ktap_bail("pipe: %s", strerror(errno));
	cpus_pin(0, 0);
	child = child_start(native_side, NULL);
	if (pthread_create(&thread, NULL, ldt_thread, NULL))
		ktap_bail("pthread_create");
	dune_test_enter();

	ldt_go = 1;
	while (!ldt_state)
		getpid();
	ldt_go = 2;
	while (ldt_state != 2)
		sched_yield();
	ktap_eq(pthread_join(thread, NULL), 0, "an LDT that came while a vCPU had the CPU can be used");

	for (int i = 0; i < 3; i++)
		want[i] = rdmsr(fixed_msrs[i]);
	child_go(&child);
	wrong = take_turns(&turn, TURNS);
	ktap_eq(native->ready, 1, "the native process has an LDT and a port");
	ktap_eq(wrong, 0, "%d turns on one CPU: the vCPU keeps what is its own", TURNS);

	wrong = 0;
	for (unsigned int i = 0; i < SPINS; i++) {
		wrong += cpus_pin(0, (int)(i & 1)) != 0;
		wrong += take_turns(&turn, 1);
		wrong += cpus_pin(child.pid, (int)(i >> 1 & 1)) != 0;
		wrong += take_turns(&turn, 1);
	}
	ktap_eq(wrong, 0, "%d turns over two CPUs as well", 2 * SPINS);

	wrong = write(to_native[1], "q", 1) != 1;
	ktap_eq(child_wait(&child) + (int)wrong, 0, "the native process lives to the end");
	ktap_eq(native->turns, turn + 1, "and had its turn every time");
	ktap_eq(native->wrong_call, 0, "its system calls were its own");
	ktap_eq(native->wrong_gs + native->wrong_fs, 0, "its FS and GS bases are kept");
	ktap_eq(native->wrong_segment, 0, "its segments are kept");
	return dune_test_done();
}
