/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=240 smp slow-bochs=80 thorough */
/*
 * Interrupts between the threads of a process: to oneself, to a thread that runs, that
 * sleeps, that has RFLAGS.IF clear, that is in an exception handler; from outside Dune
 * mode.  Every one that is answered before the next is sent comes exactly once.  Ring 3
 * and several senders: ipi_storm.c; what it costs in exits: ipi_exits.c.
 */
#define _GNU_SOURCE
#include "../child.h"
#include "../ipi.h"

/* ---- to oneself ------------------------------------------------------- */

static jmp_buf out;

static void on_escape(struct dune_tf *tf)
{
	(void)tf;
	took(VECTOR + 8);
	dune_send_interrupt(VECTOR, dune_apic_id());
	dune_apic_eoi();
	longjmp(out, 1);
}

static void on_ud(struct dune_tf *tf)
{
	tf->rip += 2;
	count[6]++;
}

static void on_raises(struct dune_tf *tf)
{
	(void)tf;
	took(VECTOR + 9);
	asm volatile("ud2" : : : "memory");
}

static void to_self(void)
{
	uint32_t me = dune_apic_id();
	unsigned int taken;
	int ret;

	reset();
	ktap_ok(me != DUNE_APIC_NONE, "the thread has an ID");
	ret = dune_send_interrupt(VECTOR, me);
	taken = count[VECTOR];
	ktap_ok(!ret && taken == 1, "to oneself: it is taken at once");
	ktap_ok(!if_in_handler && flags() & FL_IF, "IF is clear in the handler, set after it");

	reset();
	cli();
	dune_apic_send_ipi(VECTOR, me);
	dune_apic_send_ipi(VECTOR + 2, me);
	dune_apic_send_ipi(VECTOR, me);
	dune_apic_send_ipi(VECTOR + 1, me);
	getppid();
	for (volatile unsigned int i = 0; i < 100000; i++)
		;
	ktap_ok(!nr_order, "with IF clear none is taken");
	asm volatile("sti\n\tnop\n\tnop" : : : "memory");
	ktap_ok(nr_order == 3 && order[0] == VECTOR + 2 && order[1] == VECTOR + 1 &&
		order[2] == VECTOR && count[VECTOR] == 1,
		"with IF set all three are, the highest first, the one sent twice once");

	reset();
	dune_register_intr_handler(VECTOR + 8, on_escape);
	if (!setjmp(out)) {
		dune_send_interrupt(VECTOR + 8, me);
		ktap_bail("the handler returned");
	}
	ktap_ok(!(flags() & FL_IF) && !count[VECTOR],
		"a handler that leaves by longjmp() leaves IF clear");
	sti();
	asm volatile("nop" : : : "memory");
	ktap_eq(count[VECTOR], 1, "what it had sent before dune_apic_eoi() comes then");

	reset();
	dune_register_intr_handler(VECTOR + 9, on_raises);
	dune_register_intr_handler(6, on_ud);
	dune_send_interrupt(VECTOR + 9, me);
	ktap_ok(count[VECTOR + 9] == 1 && count[6] == 1, "a handler may raise an exception");

	ktap_eq(dune_send_interrupt(31, me), (unsigned long long)-EINVAL, "vector 31 is none");
	ktap_eq(dune_send_interrupt(256, me), (unsigned long long)-EINVAL, "nor is 256");
	ktap_eq(dune_send_interrupt(VECTOR, 4000), (unsigned long long)-ESRCH, "nobody there");
	ktap_eq(dune_send_interrupt(VECTOR + 7, me), 0, "a vector without a handler is dropped");
	asm volatile("int $0x40" : : : "memory");
	ktap_eq(count[VECTOR], 1, "INT with the same vector still works");
}

/* ---- to threads that run ---------------------------------------------- */

static volatile unsigned int sti_now;

static void *masked(void *arg)
{
	(void)arg;
	cli();
	target = dune_apic_id();
	ready = 1;
	while (!sti_now)
		asm volatile("pause");
	ready = 2 + count[VECTOR];
	sti();
	asm volatile("nop" : : : "memory");
	return (void *)(unsigned long)count[VECTOR];
}

/* #UD again and again; each handler stays for a while with IF set. */
static void slow_ud(struct dune_tf *tf)
{
	for (volatile unsigned int i = 0; i < 300; i++)
		;
	tf->rip += 2;
	count[6]++;
}

static void *excepts(void *arg)
{
	unsigned long n = 0;

	(void)arg;
	target = dune_apic_id();
	ready = 1;
	for (; !stop; n++)
		asm volatile("ud2" : : : "memory");
	return (void *)(n - count[6]);
}

static void *calls(void *arg)
{
	unsigned long bad = 0;

	(void)arg;
	target = dune_apic_id();
	ready = 1;
	while (!stop) {
		bad += getppid() <= 0;
		bad += syscall(SYS_sched_getaffinity, 0, 0, NULL) != -1 || errno != EINVAL;
	}
	return (void *)bad;
}

static int pre_call(struct dune_tf *tf)
{
	return tf->rax == 100000;	/* none: all are made */
}

static void post_call(struct dune_tf *tf)
{
	(void)tf;
}

static void if_clear(void)
{
	pthread_t t;
	void *seen;

	reset();
	sti_now = 0;
	launch(&t, masked);
	for (int i = 0; i < 10; i++)
		dune_apic_send_ipi(VECTOR, target);
	usleep(20000);
	ktap_eq(count[VECTOR], 0, "a running thread with IF clear is left alone");
	sti_now = 1;
	pthread_join(t, &seen);
	ktap_ok(ready == 2 && (unsigned long)seen == 1, "with IF set it takes the ten as one");
}

/* ---- asleep ----------------------------------------------------------- */

static int pipes[2];
static volatile pid_t reader_tid;

static void *reader(void *arg)
{
	long ret;
	char c;

	(void)arg;
	reader_tid = (pid_t)syscall(SYS_gettid);
	target = dune_apic_id();
	ready = 1;
	ret = read(pipes[0], &c, 1);
	asm volatile("" : : : "memory");
	return (void *)(ret * 100 + (long)count[VECTOR]);
}

static void asleep(void)
{
	pthread_t t;
	void *ret;

	if (pipe(pipes))
		ktap_bail("pipe");
	reset();
	launch(&t, reader);
	if (!child_asleep(reader_tid))
		ktap_bail("the reader does not sleep");
	dune_apic_send_ipi(VECTOR, target);
	usleep(20000);
	ktap_eq(count[VECTOR], 0, "who sleeps in read() sleeps on");
	if (write(pipes[1], "x", 1) != 1)
		ktap_bail("write");
	pthread_join(t, &ret);
	ktap_eq((long)ret, 101, "and gets it when the call returns, with its result");
}

/* ---- who has which ID ------------------------------------------------- */

static void *pinned(void *arg)
{
	cpus_pin(0, (int)(unsigned long)arg);
	dune_apic_init_rt_entry();
	return (void *)(unsigned long)dune_apic_id();
}

static void ids(void)
{
	bool error = false;
	pthread_t t;
	void *id;

	start(&t, pinned, (void *)2);
	pthread_join(t, &id);
	ktap_eq(dune_apic_id_for_cpu((uint32_t)cpus_number(2), &error), (unsigned long)id,
		"dune_apic_init_rt_entry() notes the ID for the CPU");
	ktap_ok(!error, "which is no error");
	ktap_ok(dune_apic_id_for_cpu(1000, &error) == DUNE_APIC_NONE && error,
		"there is none for a CPU that nobody noted");
	ktap_ok(dune_apic_id_for_cpu(100000, &error) == 0 && error, "nor for one beyond all");
	/* The thread may have been joined before its descriptor went. */
	for (int i = 0; i < 20000 && !dune_send_interrupt(VECTOR, (uint32_t)(unsigned long)id); i++)
		usleep(1000);
	ktap_eq(dune_send_interrupt(VECTOR, (uint32_t)(unsigned long)id),
		(unsigned long long)-ESRCH, "a thread that has ended has no ID");
}

static void forked(void)
{
	int status = 0;
	pid_t pid;

	reset();
	cli();
	dune_send_interrupt(VECTOR, dune_apic_id());
	pid = fork();
	if (pid == 0) {
		sti();
		asm volatile("nop" : : : "memory");
		if (count[VECTOR])
			_exit(1);
		dune_send_interrupt(VECTOR, dune_apic_id());
		_exit(count[VECTOR] == 1 ? 0 : 2);
	}
	sti();
	asm volatile("nop" : : : "memory");
	waitpid(pid, &status, 0);
	ktap_eq(status, 0, "the child of a fork has its own interrupts, not its parent's");
	ktap_eq(count[VECTOR], 1, "which the parent gets");
}

static volatile unsigned int outside_go, outside_sent, outside_done;

static void *outside(void *arg)
{
	(void)arg;
	while (!outside_go)
		usleep(1000);
	for (unsigned int i = 1; i <= 100; i++) {
		if (dune_apic_id() != DUNE_APIC_NONE || dune_send_interrupt(VECTOR, target))
			break;
		if (!comes(&count[VECTOR], i))
			break;
		outside_sent = i;
	}
	outside_done = 1;
	return NULL;
}

int main(void)
{
	pthread_t stranger;

	start(&stranger, outside, NULL);	/* before this thread enters */
	cpus_count();
	ktap_plan(DUNE_TEST_ENTER + 30 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_intr_handler(VECTOR, on_0);
	dune_register_intr_handler(VECTOR + 1, on_1);
	dune_register_intr_handler(VECTOR + 2, on_2);

	to_self();
	running(spin, 2000, "to a thread that spins");
	running(keeper, 2000, "to one with a red zone and vector registers");
	dune_register_intr_handler(6, slow_ud);
	running(excepts, 2000, "to one in exceptions");
	running(calls, 2000, "to one in system calls");
	dune_hook_syscalls(pre_call, post_call);
	running(calls, 2000, "to one with hooks around its calls");
	dune_hook_syscalls(NULL, NULL);
	if_clear();
	asleep();
	ids();
	forked();

	reset();
	target = dune_apic_id();
	outside_go = 1;
	while (!outside_done)
		asm volatile("pause");
	pthread_join(stranger, NULL);
	ktap_eq(outside_sent, 100, "a thread outside Dune mode sends");
	return dune_test_done();
}
