/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 smp slow-bochs=10 */
/*
 * A vCPU moves between CPUs, 500 times by somebody else's hand while it
 * computes, 500 times by its own, and takes everything along: registers,
 * FPU, thread-local storage, its MSRs, its page tables.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <sched.h>

#define MOVES		500
#define ENOUGH		(MOVES / 5)
#define MAX_MOVES	(20 * MOVES)
#define MSR_LSTAR	0xc0000082

static __thread unsigned long tls_word;

static struct {
	volatile int stop;
	volatile unsigned int moves, refused;
	volatile unsigned int seen;	/* of them by the Dune process */
	volatile pid_t target;
} *shared;

static int kernel_cpu(void)
{
	unsigned int cpu = ~0U;

	syscall(SYS_getcpu, &cpu, NULL, NULL);
	return (int)cpu;
}

/*
 * An ordinary process that moves the Dune process to and fro.  On a busy host a move may
 * be over before the process runs again: then there are more of them.
 */
static int mover(void *arg)
{
	struct timespec nap = { 0, 2000000 };

	(void)arg;
	while (!shared->target)
		sched_yield();
	for (unsigned int i = 0; i < MOVES || (shared->seen <= ENOUGH && i < MAX_MOVES); i++) {
		if (cpus_pin(shared->target, (int)(i & 1)))
			shared->refused++;
		shared->moves++;
		nanosleep(&nap, NULL);
	}
	shared->stop = 1;
	return 0;
}

static unsigned long fs_base(void)
{
	unsigned long base;

	asm volatile("movq %%fs:0, %0" : "=r"(base));	/* the TCB points to itself */
	return base;
}

static unsigned long lstar(void)
{
	unsigned int lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MSR_LSTAR));
	return lo | (unsigned long)hi << 32;
}

/*
 * Nothing but registers: general ones, all sixteen XMM, checked without a
 * system call or memory of its own in between.  False if one changed.
 */
static bool registers_survive(unsigned long seed, unsigned long loops)
{
	unsigned char in[16][16], out[16][16];
	unsigned long r12 = seed, r13 = ~seed;

	for (int i = 0; i < 256; i++)
		((unsigned char *)in)[i] = (unsigned char)(seed + (unsigned long)i * 3);
	asm volatile("movdqu (%[in]), %%xmm0\n\t"     "movdqu 16(%[in]), %%xmm1\n\t"
		     "movdqu 32(%[in]), %%xmm2\n\t"   "movdqu 48(%[in]), %%xmm3\n\t"
		     "movdqu 64(%[in]), %%xmm4\n\t"   "movdqu 80(%[in]), %%xmm5\n\t"
		     "movdqu 96(%[in]), %%xmm6\n\t"   "movdqu 112(%[in]), %%xmm7\n\t"
		     "movdqu 128(%[in]), %%xmm8\n\t"  "movdqu 144(%[in]), %%xmm9\n\t"
		     "movdqu 160(%[in]), %%xmm10\n\t" "movdqu 176(%[in]), %%xmm11\n\t"
		     "movdqu 192(%[in]), %%xmm12\n\t" "movdqu 208(%[in]), %%xmm13\n\t"
		     "movdqu 224(%[in]), %%xmm14\n\t" "movdqu 240(%[in]), %%xmm15\n\t"
		     "movq %[s], %%r12\n\t" "movq %[s], %%r13\n\t" "notq %%r13\n"
		     "1:	decq %[loops]\n\t" "jnz 1b\n\t"
		     "movdqu %%xmm0, (%[out])\n\t"     "movdqu %%xmm1, 16(%[out])\n\t"
		     "movdqu %%xmm2, 32(%[out])\n\t"   "movdqu %%xmm3, 48(%[out])\n\t"
		     "movdqu %%xmm4, 64(%[out])\n\t"   "movdqu %%xmm5, 80(%[out])\n\t"
		     "movdqu %%xmm6, 96(%[out])\n\t"   "movdqu %%xmm7, 112(%[out])\n\t"
		     "movdqu %%xmm8, 128(%[out])\n\t"  "movdqu %%xmm9, 144(%[out])\n\t"
		     "movdqu %%xmm10, 160(%[out])\n\t" "movdqu %%xmm11, 176(%[out])\n\t"
		     "movdqu %%xmm12, 192(%[out])\n\t" "movdqu %%xmm13, 208(%[out])\n\t"
		     "movdqu %%xmm14, 224(%[out])\n\t" "movdqu %%xmm15, 240(%[out])\n\t"
		     "movq %%r12, %[r12]\n\t" "movq %%r13, %[r13]"
		     : [loops] "+r"(loops), [r12] "=m"(r12), [r13] "=m"(r13)
		     : [in] "r"(in), [out] "r"(out), [s] "r"(seed)
		     : "r12", "r13", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
		       "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
		       "xmm13", "xmm14", "xmm15");
	return memcmp(in, out, sizeof(in)) == 0 && r12 == seed && r13 == ~seed;
}

/* Where the moves were felt, and what broke. */
static struct {
	unsigned int rounds, registers, tls, fs, lstar, cr3, memory;
} felt;

static void check_once(unsigned long want_fs, unsigned long want_lstar, unsigned long want_cr3,
		       uint64_t *memory)
{
	felt.registers += !registers_survive(felt.rounds * 1000003UL + 1, 10000);
	tls_word++;
	felt.tls += tls_word != felt.rounds + 1;
	felt.fs += fs_base() != want_fs;
	felt.lstar += lstar() != want_lstar;
	felt.cr3 += dune_test_cr3() != want_cr3;
	felt.memory += memory[felt.rounds % 1024] != felt.rounds / 1024;
	memory[felt.rounds % 1024]++;
	felt.rounds++;
}

static void report(const char *who, unsigned int moves)
{
	ktap_note("%s: %u rounds, %u moves", who, felt.rounds, moves);
	ktap_eq(felt.registers, 0, "%s: registers and FPU are kept", who);
	ktap_ok(felt.tls == 0 && felt.fs == 0, "%s: thread-local storage is kept", who);
	ktap_ok(felt.lstar == 0 && felt.cr3 == 0, "%s: LSTAR and CR3 are kept", who);
	ktap_eq(felt.memory, 0, "%s: memory is kept", who);
}

/* rseq and the vDSO learn of the move on the way through user space. */
static bool libc_knows_its_cpu(void)
{
	for (int cpu = 0; cpu < 2; cpu++) {
		double end = child_now() + 2;

		cpus_pin(0, cpu);
		while (sched_getcpu() != cpus_number(cpu) && child_now() < end)
			;
		if (sched_getcpu() != cpus_number(cpu)) {
			ktap_note("sched_getcpu says %d on CPU %d", sched_getcpu(), kernel_cpu());
			return false;
		}
	}
	return true;
}

int main(void)
{
	unsigned long want_fs, want_lstar, want_cr3;
	unsigned int wrong_cpu = 0;
	int last = -1;
	uint64_t *memory;

	ktap_plan(DUNE_TEST_ENTER + 12 + DUNE_TEST_LEAVE);
	if (cpus_count() < 2)
		ktap_bail("this test needs two CPUs");
	shared = child_shared(sizeof(*shared));

	struct child other = child_start(mover, NULL);

	dune_test_enter();
	memory = calloc(1024, sizeof(*memory));
	want_fs = fs_base();
	want_lstar = lstar();
	want_cr3 = dune_test_cr3();

	child_go(&other);
	shared->target = getpid();
	while (!shared->stop) {
		int cpu;

		check_once(want_fs, want_lstar, want_cr3, memory);
		cpu = kernel_cpu();
		shared->seen += cpu != last;
		last = cpu;
	}

	int status = child_wait(&other);

	ktap_ok(status == 0 && shared->moves >= MOVES && shared->refused == 0,
		"another process moved this one %d times or more", MOVES);
	ktap_ok(shared->seen > ENOUGH, "%u of the moves were seen from inside", shared->seen);
	report("moved by another", shared->moves);

	memset(&felt, 0, sizeof(felt));
	memset(memory, 0, 1024 * sizeof(*memory));
	tls_word = 0;
	for (unsigned int i = 0; i < MOVES; i++) {
		cpus_pin(0, (int)(i & 1));
		wrong_cpu += kernel_cpu() != cpus_number((int)(i & 1));
		check_once(want_fs, want_lstar, want_cr3, memory);
	}
	ktap_eq(wrong_cpu, 0, "it moved itself %d times", MOVES);
	report("moved by itself", MOVES);
	ktap_ok(libc_knows_its_cpu(), "sched_getcpu follows");
	return dune_test_done();
}
