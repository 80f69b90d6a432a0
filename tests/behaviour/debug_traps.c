/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * #DB and #BP come to the program's handlers: from TF, INT3, INT1, and from the debug
 * registers, which are the thread's own in Dune mode (SDM 17.2, APM 13.1).
 */
#define _GNU_SOURCE
#include "../child.h"
#include "../cpus.h"
#include "../dune_test.h"
#include "../ring3.h"

#include <libdune/cpu-x86.h>
#include <cpuid.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>

#define BREAKPOINTS	12

static volatile struct {
	unsigned int count, from_ring3;
	uint64_t rip, dr6;
} seen;

#define READ_DR(nr)							\
({									\
	uint64_t dr_value;						\
	asm volatile("mov %%dr" #nr ", %0" : "=r"(dr_value));		\
	dr_value;							\
})
#define WRITE_DR(nr, value)						\
	asm volatile("mov %0, %%dr" #nr : : "r"((uint64_t)(value)) : "memory")

static void on_db(struct dune_tf *tf)
{
	seen.count++;
	seen.from_ring3 += (tf->cs & 3) == 3;
	seen.rip = tf->rip;
	seen.dr6 = READ_DR(6) & 0xe00f;
	WRITE_DR(6, 0);
	tf->rflags |= FL_RF;	/* or an instruction breakpoint comes again */
}

static volatile unsigned int steps, breaks;
static volatile uint64_t break_rip, step_dr6;
static bool tells;	/* which it was, in DR6: Bochs does not under SVM */

/* Which of DR0 to DR3, as a bit. */
static bool is_which(uint64_t bit)
{
	return !tells || (seen.dr6 & 15) == bit;
}

static void on_step(struct dune_tf *tf)
{
	step_dr6 |= READ_DR(6);
	WRITE_DR(6, 0);
	if (++steps == 3)
		tf->rflags &= ~(uint64_t)FL_TF;
}

static void on_bp(struct dune_tf *tf)
{
	breaks++;
	break_rip = tf->rip;
}

static void reset(void)
{
	seen.count = seen.from_ring3 = 0;
	seen.rip = seen.dr6 = 0;
}

extern char behind_int3[], behind_int1[];

/* QEMU's TCG knows no INT1.  Before entry. */
static bool int1_natively(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		asm volatile(".byte 0xf1" : : : "memory");
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP;
}

static void instructions(bool has_int1)
{
	struct dune_info info;

	dune_register_intr_handler(T_BRKPT, on_bp);
	asm volatile("int3\n" "behind_int3:" : : : "memory");
	ktap_ok(breaks == 1 && break_rip == (uint64_t)behind_int3, "INT3: RIP is behind it");
	if (has_int1) {
		reset();
		asm volatile(".byte 0xf1\n" "behind_int1:" : : : "memory");
		ktap_ok(seen.count == 1 && seen.rip == (uint64_t)behind_int1, "INT1: likewise");
	} else {
		ktap_skip("INT1", "to this CPU it is an invalid opcode, natively too");
	}
	dune_register_intr_handler(T_DEBUG, on_step);
	asm volatile("sub $128, %%rsp\n\tpushfq\n\torl %0, (%%rsp)\n\tpopfq\n\t"
		     "nop\n\tnop\n\tnop\n\tnop\n\tadd $128, %%rsp"
		     : : "i"(FL_TF) : "memory", "cc");
	ktap_eq(steps, 3, "TF: a step for each instruction, until the handler clears it");
	tells = step_dr6 & 1 << 14;
	if (!tells)
		ktap_note("this CPU does not tell in DR6 what it was");
	ktap_ok(!ioctl(dune_fd, DUNE_GET_INFO, &info) &&
		(tells || info.vendor == DUNE_VENDOR_SVM), "with DR6.BS, on VT-x at least");
	dune_register_intr_handler(T_DEBUG, on_db);
}

/* ---- debug registers -------------------------------------------------- */

void spot(void);
asm(".text\n" ".globl spot\n" ".type spot, @function\n"
    "spot:	nop\n	ret\n" ".size spot, . - spot\n");

static volatile uint64_t words[4] __attribute__((aligned(64)));

static uint64_t watch(unsigned int nr, uint64_t rw, uint64_t len)
{
	return DR7_L(nr) | rw << DR7_RW_SHIFT(nr) | len << DR7_LEN_SHIFT(nr);
}

static void *another(void *arg)
{
	spot();
	words[0] = 3;
	return (void *)(unsigned long)(READ_DR(7) & 0xff || READ_DR(0) || arg);
}

/* Across exits, sleeps and a change of CPU. */
static void stays(void)
{
	struct timespec nap = { .tv_nsec = 1000000 };

	for (int i = 0; i < 20; i++) {
		cpus_pin(0, i & 1);
		nanosleep(&nap, NULL);
		getppid();
	}
	reset();
	words[0] = 9;
	ktap_ok(seen.count == 1 && READ_DR(0) == (uint64_t)&words[0],
		"it stays while the thread sleeps and moves");
}

extern char user_spot[];
asm(".text\n" ".globl user_spot\n"
    "user_spot: nop\n mov $5, %edi\n mov $1000, %eax\n syscall\n ud2\n");

static void breakpoints(void)
{
	pthread_t t;
	void *bad;
	int ret;

	WRITE_DR(0, &words[0]);
	WRITE_DR(7, watch(0, DR7_RW_WRITE, DR7_LEN_8));
	ktap_ok(READ_DR(0) == (uint64_t)&words[0] && READ_DR(7) & 1, "DR0 and DR7 read as written");
	reset();
	(void)words[0];
	words[1] = 1;
	ktap_eq(seen.count, 0, "a write is watched: reading and its neighbour are not");
	words[0] = 1;
	ktap_ok(seen.count == 1 && is_which(1), "the write is #DB, and DR6 says which");
	stays();

	reset();
	pthread_create(&t, NULL, another, NULL);
	pthread_join(t, &bad);
	ktap_ok(!bad && !seen.count, "another thread has debug registers of its own");

	WRITE_DR(1, spot);
	WRITE_DR(2, &words[2]);
	WRITE_DR(3, (char *)&words[3] + 3);
	WRITE_DR(7, watch(0, DR7_RW_WRITE, DR7_LEN_8) | watch(1, DR7_RW_EXEC, DR7_LEN_1) |
		    watch(2, DR7_RW_RW, DR7_LEN_4) | watch(3, DR7_RW_WRITE, DR7_LEN_1));
	reset();
	spot();
	ktap_ok(seen.count == 1 && seen.rip == (uint64_t)spot && is_which(2),
		"an instruction: RIP is at it, and RF in the frame lets it pass");
	spot();
	ktap_eq(seen.count, 2, "and again");
	reset();
	(void)words[2];
	ktap_ok(seen.count == 1 && is_which(4), "a read");
	reset();
	((volatile char *)&words[3])[2] = 1;
	ktap_eq(seen.count, 0, "one byte beside");
	((volatile char *)&words[3])[3] = 1;
	ktap_ok(seen.count == 1 && is_which(8), "and the byte");

	WRITE_DR(1, user_spot);
	reset();
	ret = ring3_run(user_spot);
	ktap_ok(ret == 5 && seen.from_ring3 == 1 && seen.rip == (uint64_t)user_spot, "in ring 3");
	WRITE_DR(7, 0);
	reset();
	spot();
	words[0] = 2;
	ktap_eq(seen.count, 0, "none with DR7 clear");
}

/* QEMU's SVM does not take breakpoints from a VMCB's DR7. */
/*
 * A tracer sets breakpoints of Linux' for a thread in Dune mode. The guest has debug
 * registers of its own, so they do not fire there; nothing else happens either.
 */
static bool traced(void)
{
	volatile int *go = child_shared(sizeof(*go));
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		while (!*go)
			usleep(1000);
		for (int i = 0; i < 10000; i++) {
			words[0]++;
			if (i % 10 == 0)
				syscall(SYS_getppid);
		}
		_exit(dune_test_cpl() ? DUNE_TEST_NOT_IN_GUEST : 0);
	}
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) || waitpid(pid, &status, 0) != pid)
		ktap_bail("PTRACE_ATTACH: %s", strerror(errno));
	if (ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &words[0]) ||
	    ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), watch(0, 3, 8)) ||
	    ptrace(PTRACE_DETACH, pid, NULL, NULL))
		ktap_bail("a tracer's breakpoint: %s", strerror(errno));
	*go = 1;
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool is_tcg(void)
{
	uint32_t a, sign[3];

	__cpuid(0x40000000, a, sign[0], sign[1], sign[2]);
	return !memcmp(sign, "TCGTCGTCGTCG", 12);
}

int main(void)
{
	bool has_int1 = int1_natively();

	cpus_count();
	ktap_plan(DUNE_TEST_ENTER + 6 + BREAKPOINTS + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_intr_handler(T_DEBUG, on_db);
	instructions(has_int1);
	asm volatile("" : : : "memory");
	WRITE_DR(0, 0x1234567);
	ktap_eq(READ_DR(0), 0x1234567, "DR0 is the thread's");
	WRITE_DR(0, 0);
	ktap_ok(traced(), "a tracer's breakpoints do not disturb");
	if (is_tcg())
		for (int i = 0; i < BREAKPOINTS; i++)
			ktap_skip("breakpoints", "QEMU's TCG ignores a VMCB's DR7; --engine bochs --vendor amd does not");
	else
		breakpoints();
	return dune_test_done();
}
