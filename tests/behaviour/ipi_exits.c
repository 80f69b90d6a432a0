/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 smp */
/*
 * What an interrupt between threads costs in exits, by the vCPUs' own counters.  Sending
 * is one, and the module is done with it in place.  Receiving is none where the CPU posts
 * interrupts (DUNE_FEAT_POSTED: VT-x with posted interrupts, as Bochs' Skylake), and one
 * elsewhere (SVM; Haswell); nor is an interrupt to oneself any there.  And what a
 * hostile ring 0 can do with the registers that this opens.
 */
#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "../ipi.h"

#define ROUNDS		400
#define X2APIC_EOI	0x80b
#define X2APIC_ICR	0x830
#define X2APIC_SELF_IPI	0x83f

static bool posted;

/* Without this the fallback would pass for it on a CPU that posts. */
static bool cpu_posts(void)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[4096];
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "vmx flags", 9) && strstr(line, " posted_intr");
	if (f)
		fclose(f);
	return found;
}

/* ---- to another thread ------------------------------------------------ */

static const volatile struct dune_stats *volatile receiver;

static void *receives(void *arg)
{
	receiver = dune_vcpu_stats();
	return spin(arg);
}

static void *receives_masked(void *arg)
{
	cli();
	receives(arg);
	sti();
	asm volatile("nop" : : : "memory");
	return (void *)(unsigned long)count[VECTOR];
}

/*
 * The host's own interrupts end guest mode too: one in a round has an exit of its own,
 * and one just before it has the thread find the interrupt without another.
 */
static void to_another(void)
{
	unsigned int quiet = 0, got = 0;
	uint64_t calls, runs, before;
	pthread_t t;

	reset();
	launch(&t, receives);
	calls = dune_test_hypercalls();
	runs = dune_test_stats().runs;
	for (; got < ROUNDS; got++) {
		before = all_exits(receiver);
		dune_apic_send_ipi(VECTOR, target);
		for (unsigned long i = 0; i < 1UL << 26 && count[VECTOR] <= got; i++)
			asm volatile("pause");
		if (count[VECTOR] != got + 1)
			break;
		quiet += all_exits(receiver) == before;
	}
	calls = dune_test_hypercalls() - calls;
	runs = dune_test_stats().runs - runs;
	stop = 1;
	pthread_join(t, NULL);
	ktap_eq(got, ROUNDS, "each comes once");
	ktap_ok(calls == ROUNDS && runs < ROUNDS / 2,
		"each costs the sender one hypercall, made in place (%lu, %lu ways to user space)",
		(unsigned long)calls, (unsigned long)runs);
	ktap_ok(posted ? quiet > ROUNDS / 2 : quiet < ROUNDS / 4,
		"%u of %u cost the receiver no exit%s", quiet,
		ROUNDS, posted ? "" : ": this CPU does not post interrupts");
}

static void masked(void)
{
	uint64_t before;
	pthread_t t;
	void *seen;

	reset();
	launch(&t, receives_masked);
	before = all_exits(receiver);
	for (unsigned int i = 0; i < 50; i++)
		dune_apic_send_ipi(VECTOR, target);
	for (unsigned int i = 0; i < 200 && (!i || all_exits(receiver) <= before); i++)
		usleep(50000);
	ktap_eq(count[VECTOR], 0, "with IF clear none of 50 is taken");
	ktap_ok(all_exits(receiver) > before, "while the host interrupts the thread as ever");
	stop = 1;
	pthread_join(t, &seen);
	ktap_eq((unsigned long)seen, 1, "with IF set they are, as one");
}

/* ---- to oneself ------------------------------------------------------- */

static void to_self(void)
{
	uint32_t me = dune_apic_id();
	unsigned int quiet = 0, taken = 0;
	uint64_t before, calls;

	/* The first has Linux asked whether there is a stack for the handler. */
	dune_apic_send_ipi(VECTOR, me);
	reset();
	calls = dune_test_hypercalls();
	for (unsigned int i = 0; i < ROUNDS; i++) {
		before = all_exits(dune_vcpu_stats());
		dune_apic_send_ipi(VECTOR, me);
		taken += count[VECTOR] == i + 1;
		quiet += all_exits(dune_vcpu_stats()) == before;
	}
	calls = dune_test_hypercalls() - calls;
	ktap_eq(taken, ROUNDS, "to oneself: each is taken at once");
	ktap_ok(posted ? !calls && quiet > ROUNDS / 2 : calls == ROUNDS && !quiet,
		"%u of %u without an exit, %lu hypercalls", quiet, ROUNDS, (unsigned long)calls);
}

/*
 * After a fork the page that the CPU pushes the frame to is mapped for reading alone:
 * an exit in the middle of the delivery.
 */
static void cut_short(void)
{
	uint64_t faults;
	int status = -1;
	pid_t pid;

	reset();
	cli();
	dune_apic_send_ipi(VECTOR, dune_apic_id());
	dune_apic_send_ipi(VECTOR + 1, dune_apic_id());
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, &status, 0);
	faults = dune_test_stats().exit[DUNE_STAT_FAULT].count;
	asm volatile("sti\n\tnop\n\tnop" : : : "memory");
	faults = dune_test_stats().exit[DUNE_STAT_FAULT].count - faults;
	ktap_ok(faults && count[VECTOR] == 1 && count[VECTOR + 1] == 1 && !status,
		"a delivery that a second-stage fault cuts short comes once (%lu faults)",
		(unsigned long)faults);
	dune_apic_send_ipi(VECTOR, dune_apic_id());
	ktap_eq(count[VECTOR], 2, "and does not keep the next one away");
}

/* ---- the registers ---------------------------------------------------- */

static volatile unsigned int refused;

static void on_gp(struct dune_tf *tf)
{
	refused++;
	tf->rip += 2;			/* RDMSR and WRMSR */
}

static bool writes(uint32_t msr, uint64_t value)
{
	unsigned int before = refused;

	asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
		     : "memory");
	return refused == before;
}

static bool reads(uint32_t msr)
{
	unsigned int before = refused;
	uint32_t lo, hi;

	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
	return refused == before;
}

/* Of an interrupt that libdune knows nothing of: the program ends it. */
static void on_raw(struct dune_tf *tf)
{
	(void)tf;
	took(VECTOR + 3);
	writes(X2APIC_EOI, 0);
}

static void registers(void)
{
	unsigned int let = 0, odd = 0, before;

	reset();
	dune_register_intr_handler(13, on_gp);
	dune_register_intr_handler(VECTOR + 3, on_raw);
	ktap_ok(writes(X2APIC_EOI, 0) == posted && writes(X2APIC_SELF_IPI, VECTOR + 3) == posted &&
		writes(X2APIC_SELF_IPI, VECTOR + 3) == posted && count[VECTOR + 3] == 2U * posted,
		"EOI and SELF_IPI can be written where interrupts are posted, and only there");
	for (uint32_t msr = 0x800; msr < 0x900; msr++) {
		let += reads(msr);
		if (msr != X2APIC_EOI && msr != X2APIC_SELF_IPI)
			let += writes(msr, 0);
	}
	ktap_eq(let, 0, "no other register of the x2APIC can be reached");
	ktap_ok(!writes(X2APIC_ICR, 0x000c0000 | VECTOR), "least of all the ICR");

	for (unsigned int v = 0; v < 16; v++)
		odd += writes(X2APIC_SELF_IPI, v) != posted;
	before = refused;
	odd += writes(X2APIC_SELF_IPI, 256) + writes(X2APIC_SELF_IPI, 1ULL << 32 | VECTOR) +
	       writes(X2APIC_EOI, 1);
	ktap_ok(!odd && refused == before + 3, "odd values are refused, or do nothing");
	dune_register_intr_handler(13, NULL);
	dune_apic_send_ipi(VECTOR, dune_apic_id());
	ktap_eq(count[VECTOR], 1, "after all that an interrupt still comes");
}

int main(void)
{
	struct dune_info info;

	ktap_plan(DUNE_TEST_ENTER + 16 + DUNE_TEST_LEAVE);
	cpus_count();
	dune_test_enter();
	if (ioctl(dune_fd, DUNE_GET_INFO, &info))
		ktap_bail("DUNE_GET_INFO: %s", strerror(errno));
	posted = info.features & DUNE_FEAT_POSTED;
	dune_register_intr_handler(VECTOR, on_0);
	dune_register_intr_handler(VECTOR + 1, on_1);
	ktap_eq(posted, cpu_posts(), "they are posted where /proc/cpuinfo has posted_intr");
	ktap_note("interrupts are %s", posted ? "posted" : "not posted: an exit for each");

	to_another();
	masked();
	to_self();
	cut_short();
	registers();
	return dune_test_done();
}
