/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=240 */
/*
 * Three Dune and two native processes share a CPU, each with its own values in all
 * vector registers the CPU has.  Nobody makes a system call while it holds them, so
 * every switch is the timer's; nobody may ever see another's, or lose its own.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"
#include "../fpu_bank.h"

#include <limits.h>
#include <sys/resource.h>

#define DUNE		3
#define SIDES		5
#define SWITCHES	120
#define DEADLINE	90.0	/* seconds */
#define MAX_BYTES	(32 * 64)

FPU(sse, "movdqu", "xmm", 16, INSN_SPIN);
FPU(avx, "vmovdqu", "ymm", 32, INSN_SPIN);
FPU_WITH(EACH_UPPER, avx512, "vmovdqu64", "zmm", 64, INSN_SPIN);

static struct {
	const char *name;
	size_t bytes;
	fpu_fn spin;
} bank = { "SSE", 16 * 16, fpu_sse };

static struct side {
	volatile unsigned int rounds, wrong;
	volatile long switches;
	volatile int cpl, ready;
} *sides;

static volatile int *stop;

static long switched(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_nivcsw;
}

static bool keeps(unsigned int seed)
{
	unsigned char in[MAX_BYTES], out[MAX_BYTES];

	for (size_t i = 0; i < bank.bytes; i++)
		in[i] = (unsigned char)(seed * 37 + i * 11 + (i >> 8) * 5 + 1);
	memset(out, 0, bank.bytes);
	bank.spin(in, out, 300000);
	return memcmp(in, out, bank.bytes) == 0;
}

static bool all_ready(void)
{
	for (unsigned int i = 0; i < SIDES; i++)
		if (!sides[i].ready)
			return false;
	return true;
}

static int run_side(void *arg)
{
	struct side *s = arg;
	unsigned int own = (unsigned int)(s - sides);
	double end = child_now() + DEADLINE;
	long first;

	if (own < DUNE)
		dune_test_child_enter();
	s->cpl = (int)dune_test_cpl();
	s->ready = 1;
	while (!all_ready() && child_now() < end)
		sched_yield();
	first = switched();
	while (!*stop && child_now() < end) {
		s->wrong += !keeps(own * 1000 + s->rounds);
		s->rounds++;
		s->switches = switched() - first;
	}
	return 15;
}

static bool enough(void)
{
	for (unsigned int i = 0; i < SIDES; i++)
		if (sides[i].switches < SWITCHES)
			return false;
	return true;
}

int main(void)
{
	unsigned int wrong = 0, bad = 0, levels = 0;
	long fewest = LONG_MAX;
	struct timespec nap = { 0, 50000000 };
	struct child children[SIDES];
	double end;

	ktap_plan(DUNE_TEST_ENTER + 4 + DUNE_TEST_LEAVE);
	if (__builtin_cpu_supports("avx512f")) {
		bank.name = "AVX-512";
		bank.bytes = 32 * 64;
		bank.spin = fpu_avx512;
	} else if (__builtin_cpu_supports("avx")) {
		bank.name = "AVX";
		bank.bytes = 16 * 32;
		bank.spin = fpu_avx;
	}
	sides = child_shared(SIDES * sizeof(*sides) + sizeof(int));
	stop = (volatile int *)(sides + SIDES);
	cpus_pin(0, 0);
	for (unsigned int i = 0; i < SIDES; i++)
		children[i] = child_start(run_side, &sides[i]);
	dune_test_enter();
	ktap_fact("registers", "%s", bank.name);

	for (unsigned int i = 0; i < SIDES; i++)
		child_go(&children[i]);
	end = child_now() + DEADLINE;
	while (!enough() && child_now() < end)
		nanosleep(&nap, NULL);
	*stop = 1;
	for (unsigned int i = 0; i < SIDES; i++) {
		bad += child_wait(&children[i]) != 15 << 8;
		wrong += sides[i].wrong;
		levels += sides[i].cpl != (i < DUNE ? 0 : 3);
		if (sides[i].switches < fewest)
			fewest = sides[i].switches;
		ktap_note("%s: %u rounds, %ld switches, %u wrong", i < DUNE ? "dune" : "native",
			  sides[i].rounds, sides[i].switches, sides[i].wrong);
	}
	ktap_eq(bad, 0, "all five processes end well");
	ktap_eq(levels, 0, "three in Dune mode, two outside");
	ktap_metric("switches_each", fewest, "count");
	ktap_ok(fewest >= SWITCHES, "%ld switches by the timer for each of them, and %d are enough",
		fewest, SWITCHES);
	ktap_eq(wrong, 0, "with all registers in use and none ever wrong");
	return dune_test_done();
}
