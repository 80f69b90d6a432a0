/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=60 */
/*
 * RDTSC, CPUID and RDRAND come to the program's handler, which makes up the result:
 * from ring 0 and 3, in threads and children, and only while it is asked for.  AMD
 * cannot do it for RDRAND, and the library says so.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../ring3.h"

#include <cpuid.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <time.h>

#define ALL	(DUNE_INSN_RDTSC | DUNE_INSN_CPUID)
#define TIME	0x1234567890abcdefUL

static volatile unsigned int seen[5], from_ring3;
static volatile uint64_t leaf, subleaf, time_now = TIME;

static void on_insn(const struct dune_insn *insn, struct dune_tf *tf)
{
	seen[insn->kind]++;
	from_ring3 += (tf->cs & 3) == 3;
	switch (insn->kind) {
	case DUNE_IS_RDTSCP:
		tf->rcx = 7;
		/* fall through */
	case DUNE_IS_RDTSC:
		dune_insn_set(insn, tf, time_now);
		break;
	case DUNE_IS_CPUID:
		leaf = tf->rax;
		subleaf = tf->rcx;
		tf->rax = 0xa;
		tf->rbx = 0xb;
		tf->rcx = 0xc;
		tf->rdx = 0xd;
		break;
	default:
		dune_insn_set(insn, tf, TIME);
	}
}

static uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static uint64_t rdtscp(uint32_t *aux)
{
	uint32_t lo, hi;

	asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(*aux));
	return (uint64_t)hi << 32 | lo;
}

static void in_thread_of(bool *trapped)
{
	*trapped = rdtsc() == TIME;
}

static void *thread(void *arg)
{
	in_thread_of(arg);
	return NULL;
}

static volatile unsigned int early_go;
static bool early_trapped = true;

/* Made before anything is trapped. */
static void *early(void *arg)
{
	while (!early_go)
		asm volatile("pause");
	in_thread_of(arg);
	return NULL;
}

extern char user_rdtsc[];
asm(".text\n" ".globl user_rdtsc\n"
    "user_rdtsc: rdtsc\n mov %eax, %edi\n mov $1000, %eax\n syscall\n ud2\n");

static volatile unsigned int gps;

static void on_gp(struct dune_tf *tf)
{
	gps++;
	tf->rip += 2;
}

static sigjmp_buf back;

static void on_segv(int sig)
{
	siglongjmp(back, sig);
}

static void others(void)
{
	signal(SIGSEGV, on_segv);
	if (!sigsetjmp(back, 1)) {
		asm volatile("rdmsr" : : "c"(0x12345678) : "rax", "rdx");
		ktap_ok(false, "another #GP without a handler is SIGSEGV");
	} else {
		ktap_ok(true, "another #GP without a handler is SIGSEGV");
	}
	signal(SIGSEGV, SIG_DFL);
	dune_register_intr_handler(13, on_gp);
	asm volatile("rdmsr" : : "c"(0x12345678) : "rax", "rdx");
	ktap_ok(gps == 1 && rdtsc() == TIME && gps == 1,
		"a handler for #GP gets it, and not what is trapped");
}

#define RANDOM(insn, type, with)					\
({									\
	type value = 0x5555;						\
	bool carry;							\
									\
	asm volatile(insn " %0" : "+" with(value), "=@ccc"(carry));	\
	carry ? value : 0;						\
})

static void random_numbers(void)
{
	register uint64_t r15 asm("r15") = ~0UL;
	unsigned int before;

	ktap_eq(dune_trap_insn(ALL | DUNE_INSN_RDRAND, on_insn), 0, "RDRAND, too");
	ktap_eq(RANDOM("rdrand", uint64_t, "r"), TIME, "RDRAND of 64 bits");
	asm volatile("rdrand %k0" : "+r"(r15) : : "cc");
	ktap_eq(r15, (uint32_t)TIME, "of 32 bits, in r15, the upper half clear");
	r15 = ~0UL;
	asm volatile("rdrand %w0" : "+r"(r15) : : "cc");
	ktap_eq(r15, ~0xffffUL | (TIME & 0xffff), "of 16 bits, the rest as it was");
	before = seen[DUNE_IS_RDSEED];
	ktap_eq(RANDOM("rdseed", uint64_t, "r"), TIME, "RDSEED");
	ktap_eq(seen[DUNE_IS_RDSEED] - before, 1, "is told from RDRAND");
}

static void no_random_numbers(int ret)
{
	struct dune_info info;

	ktap_eq(ret, (unsigned long long)-ENOTSUP, "RDRAND cannot be trapped here: ENOTSUP");
	ktap_eq(rdtsc() == TIME, true, "and what was trapped still is");
	ktap_ok(!ioctl(dune_fd, DUNE_GET_INFO, &info) && info.vendor == DUNE_VENDOR_SVM,
		"which is so on AMD alone");
	for (int i = 0; i < 3; i++)
		ktap_skip("RDRAND", "AMD has no intercept for it");
}

int main(void)
{
	bool trapped = false;
	struct timespec now;
	uint32_t a, b, c, d, aux;
	pthread_t t, first;
	uint64_t exits, real;
	int ret, status = 0;

	ktap_plan(DUNE_TEST_ENTER + 28 + DUNE_TEST_LEAVE);
	ktap_eq(dune_trap_insn(ALL, on_insn), (unsigned long long)-EINVAL, "not outside Dune mode");
	dune_test_enter();
	pthread_create(&first, NULL, early, &early_trapped);
	ktap_eq(dune_trap_insn(8, on_insn), (unsigned long long)-EINVAL, "an unknown instruction");
	ktap_eq(dune_trap_insn(ALL, NULL), (unsigned long long)-EINVAL, "no handler");
	real = rdtsc();
	ktap_ok(real != TIME && !seen[DUNE_IS_RDTSC], "nothing is trapped at first");

	ktap_eq(dune_trap_insn(ALL, on_insn), 0, "RDTSC and CPUID");
	exits = dune_test_stats().exit[DUNE_STAT_INSN].count;
	ktap_eq(rdtsc(), TIME, "RDTSC has the handler's answer");
	ktap_eq(dune_test_stats().exit[DUNE_STAT_INSN].count - exits, 1, "by one exit");
	ktap_ok(rdtscp(&aux) == TIME && aux == 7 && seen[DUNE_IS_RDTSCP] == 1, "RDTSCP");
	__cpuid_count(7, 1, a, b, c, d);
	ktap_ok(a == 0xa && b == 0xb && c == 0xc && d == 0xd && leaf == 7 && subleaf == 1,
		"CPUID, with leaf and subleaf");
	asm volatile(".byte 0x66, 0x48; rdtsc" : "=a"(a), "=d"(d));
	ktap_eq((uint64_t)d << 32 | a, TIME, "a prefix does not hide it");
	time_now = real;	/* it counts seconds in a loop */
	ret = clock_gettime(CLOCK_MONOTONIC, &now);
	ktap_eq(ret, 0, "the vDSO's clock survives it");
	time_now = TIME;

	pthread_create(&t, NULL, thread, &trapped);
	pthread_join(t, NULL);
	ktap_ok(trapped, "a new thread inherits it");
	early_go = 1;
	pthread_join(first, NULL);
	ktap_ok(!early_trapped, "one that was there before does not");
	if (fork() == 0)
		_exit(rdtsc() == TIME ? 42 : 1);
	wait(&status);
	ktap_eq(WEXITSTATUS(status), 42, "the child of a fork inherits it");
	from_ring3 = 0;
	ktap_ok(ring3_run(user_rdtsc) == (int)(uint32_t)TIME && from_ring3 == 1, "ring 3");
	others();
	dune_register_intr_handler(13, NULL);

	ret = dune_trap_insn(ALL | DUNE_INSN_RDRAND, on_insn);
	if (ret)
		no_random_numbers(ret);
	else
		random_numbers();

	ktap_eq(dune_trap_insn(DUNE_INSN_CPUID, on_insn), 0, "CPUID alone");
	ktap_ok(rdtsc() != TIME, "RDTSC is the CPU's again");
	__cpuid(0, a, b, c, d);
	ktap_eq(a, 0xa, "CPUID is not");
	ktap_eq(dune_trap_insn(0, NULL), 0, "none");
	__cpuid(0, a, b, c, d);
	ktap_ok(a != 0xa, "CPUID is the CPU's again");
	return dune_test_done();
}
