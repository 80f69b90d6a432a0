/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * FPU, SSE and AVX registers belong to the program: they survive exceptions
 * whose handlers use all of them, system calls, and context switches with an
 * ordinary process on the same CPU, which in turn keeps its own.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"
#include "../fpu_bank.h"
#include "../trap.h"

#include <sys/resource.h>

#define ROUNDS		100
#define SWITCHES	100
#define DEADLINE	60.0	/* seconds */

#define INSN_UD2	"ud2"
#define INSN_INT3	"int3"
#define INSN_YIELD	"movl $24, %eax; syscall"	/* sched_yield */
#define INSN_CPUID	"movq %rbx, %r8; xorl %eax, %eax; xorl %ecx, %ecx; cpuid; movq %r8, %rbx"

FPU(sse_ud2, "movdqu", "xmm", 16, INSN_UD2);
FPU(sse_int3, "movdqu", "xmm", 16, INSN_INT3);
FPU(sse_yield, "movdqu", "xmm", 16, INSN_YIELD);
FPU(sse_spin, "movdqu", "xmm", 16, INSN_SPIN);
FPU(sse_cpuid, "movdqu", "xmm", 16, INSN_CPUID);
FPU(avx_ud2, "vmovdqu", "ymm", 32, INSN_UD2);
FPU(avx_int3, "vmovdqu", "ymm", 32, INSN_INT3);
FPU(avx_yield, "vmovdqu", "ymm", 32, INSN_YIELD);
FPU(avx_spin, "vmovdqu", "ymm", 32, INSN_SPIN);
FPU(avx_cpuid, "vmovdqu", "ymm", 32, INSN_CPUID);

struct bank {
	const char *name;
	size_t bytes;
	fpu_fn ud2, int3, yield, spin, cpuid;
};

static const struct bank sse = {
	"SSE", 16 * 16, fpu_sse_ud2, fpu_sse_int3, fpu_sse_yield, fpu_sse_spin, fpu_sse_cpuid,
};

static const struct bank avx = {
	"AVX", 16 * 32, fpu_avx_ud2, fpu_avx_int3, fpu_avx_yield, fpu_avx_spin, fpu_avx_cpuid,
};

static const struct bank *bank = &sse;

/* Everything a handler written in C could do to the registers, and more. */
static void clobber(void)
{
	static const uint32_t mxcsr = 0x1f80;

	asm volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm1; movdqa %%xmm0, %%xmm2;"
		     "movdqa %%xmm0, %%xmm3; movdqa %%xmm0, %%xmm4; movdqa %%xmm0, %%xmm5;"
		     "movdqa %%xmm0, %%xmm6; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm8;"
		     "movdqa %%xmm0, %%xmm9; movdqa %%xmm0, %%xmm10; movdqa %%xmm0, %%xmm11;"
		     "movdqa %%xmm0, %%xmm12; movdqa %%xmm0, %%xmm13; movdqa %%xmm0, %%xmm14;"
		     "movdqa %%xmm0, %%xmm15; ldmxcsr %0; fninit" : : "m"(mxcsr));
	if (bank == &avx)
		asm volatile("vzeroall");
}

static void on_ud2(struct dune_tf *tf)
{
	clobber();
	tf->rip += 2;
}

static void on_int3(struct dune_tf *tf)
{
	(void)tf;
	clobber();
}

static bool unchanged(fpu_fn fn, unsigned int seed, unsigned long count)
{
	unsigned char in[16 * 32], out[16 * 32];

	for (size_t i = 0; i < bank->bytes; i++)
		in[i] = (unsigned char)(seed * 31 + i * 7 + 1);
	memset(out, 0, sizeof(out));
	fn(in, out, count);
	return memcmp(in, out, bank->bytes) == 0;
}

static unsigned int wrong_rounds(fpu_fn fn, unsigned int rounds)
{
	unsigned int wrong = 0;

	for (unsigned int i = 0; i < rounds; i++)
		wrong += !unchanged(fn, i, 1000);
	return wrong;
}

/* MXCSR rounding up and the x87 rounding down with single precision. */
static bool control_words_survive(void)
{
	uint32_t mxcsr = 0x1f80 | 0x4000, old_mxcsr, got_mxcsr;
	uint16_t fcw = 0x047f, old_fcw, got_fcw;

	asm volatile("stmxcsr %0; fnstcw %1" : "=m"(old_mxcsr), "=m"(old_fcw));
	asm volatile("ldmxcsr %2; fldcw %3; ud2; stmxcsr %0; fnstcw %1"
		     : "=m"(got_mxcsr), "=m"(got_fcw) : "m"(mxcsr), "m"(fcw) : "memory");
	asm volatile("ldmxcsr %0; fldcw %1" : : "m"(old_mxcsr), "m"(old_fcw));
	return (got_mxcsr & ~0x3fU) == mxcsr && got_fcw == fcw;
}

static bool x87_stack_survives(void)
{
	double a = 1.5, b = -2.25, got_a = 0, got_b = 0;

	asm volatile("fldl %2; fldl %3; ud2; fstpl %1; fstpl %0"
		     : "=m"(got_a), "=m"(got_b) : "m"(a), "m"(b) : "memory");
	return got_a == a && got_b == b;
}

/* What both sides of the context-switch test do and report. */
struct side {
	unsigned int rounds, wrong;
	unsigned long switches;
};

static struct {
	volatile int stop;
	struct side native;
} *shared;

static unsigned long switches(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (unsigned long)(ru.ru_nvcsw + ru.ru_nivcsw);
}

static void run_side(struct side *s, unsigned int seed, const volatile int *stop, bool forever)
{
	unsigned long first = switches();
	double end = child_now() + DEADLINE;

	while (!*stop && child_now() < end) {
		s->wrong += !unchanged(bank->yield, seed + s->rounds, 0);
		s->wrong += !unchanged(bank->spin, seed + s->rounds, 20000);
		s->rounds++;
		s->switches = switches() - first;
		if (!forever && s->switches >= SWITCHES)
			break;
	}
}

static int native_side(void *arg)
{
	(void)arg;
	run_side(&shared->native, 1000003, &shared->stop, true);
	return 0;
}

int main(void)
{
	struct side dune = { 0, 0, 0 };
	struct child other;
	int never = 0;

	ktap_plan(DUNE_TEST_ENTER + 11 + DUNE_TEST_LEAVE);
	if (__builtin_cpu_supports("avx"))
		bank = &avx;
	shared = child_shared(sizeof(*shared));
	cpus_pin(0, 0);
	other = child_start(native_side, NULL);
	dune_test_enter();
	ktap_fact("registers", "%s", bank->name);

	dune_register_intr_handler(TRAP_UD, on_ud2);
	dune_register_intr_handler(TRAP_BP, on_int3);

	ktap_eq(wrong_rounds(bank->ud2, ROUNDS), 0, "registers survive handlers of invalid opcode");
	ktap_eq(wrong_rounds(bank->int3, ROUNDS), 0, "registers survive handlers of breakpoint");
	ktap_eq(wrong_rounds(bank->yield, ROUNDS), 0, "registers survive system calls");
	ktap_eq(wrong_rounds(bank->cpuid, ROUNDS), 0,
		"registers survive an exit that the module emulates");
	ktap_ok(control_words_survive(), "MXCSR and the x87 control word survive a handler");
	ktap_ok(x87_stack_survives(), "the x87 stack survives a handler");

	child_go(&other);
	run_side(&dune, 7, &never, false);
	shared->stop = 1;

	int status = child_wait(&other);

	ktap_note("dune: %u rounds, %lu switches; native: %u rounds, %lu switches", dune.rounds,
		  dune.switches, shared->native.rounds, shared->native.switches);
	ktap_ok(dune.switches >= SWITCHES, "%d context switches with an ordinary process", SWITCHES);
	ktap_eq(dune.wrong, 0, "the Dune process keeps its registers");
	ktap_ok(status == 0 && shared->native.rounds > 0, "the ordinary process ran meanwhile");
	ktap_eq(shared->native.wrong, 0, "and keeps its own");
	ktap_eq(wrong_rounds(bank->spin, ROUNDS), 0, "registers survive the host's interrupts");
	return dune_test_done();
}
