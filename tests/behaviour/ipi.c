/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=240 smp slow-bochs=150 */
/*
 * Interrupts between the threads of a process: to oneself, to a thread that runs in
 * ring 0 or 3, that sleeps, that has RFLAGS.IF clear, that is in an exception handler or
 * edits page tables; from one thread and from three at once.  Every one that is
 * answered before the next is sent comes exactly once.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "../cpus.h"

#define VECTOR		0x40	/* and those behind it: one for each sender */
#define SENDERS		3

static volatile unsigned int count[256], last_vector, order[8], nr_order;
static volatile bool if_in_handler;
static volatile uint32_t target;
static volatile unsigned int ready, stop;

static unsigned long flags(void)
{
	unsigned long f;

	asm volatile("pushfq\n\tpop %0" : "=r"(f));
	return f;
}

static void cli(void)
{
	dune_control_guest_ints(false);
}

static void sti(void)
{
	dune_control_guest_ints(true);
}

static void took(unsigned int vector)
{
	if_in_handler |= (flags() & FL_IF) != 0;
	last_vector = vector;
	if (nr_order < 8)
		order[nr_order++] = vector;
	count[vector]++;
	/* The program's vector registers are saved: use them. */
	asm volatile("pcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm15, %%xmm15" : : : "xmm0", "xmm15");
}

static void on_0(struct dune_tf *tf) { (void)tf; took(VECTOR); }
static void on_1(struct dune_tf *tf) { (void)tf; took(VECTOR + 1); dune_apic_eoi(); }
static void on_2(struct dune_tf *tf) { (void)tf; took(VECTOR + 2); }

static void reset(void)
{
	memset((void *)count, 0, sizeof(count));
	nr_order = last_vector = 0;
	ready = stop = 0;
	if_in_handler = false;
}

/* Until *what is @want; false after a while of host time. */
static bool comes(volatile unsigned int *what, unsigned int want)
{
	for (int i = 0; i < 20000 && *what != want; i++) {
		if (i > 1000) {
			struct timespec nap = { .tv_nsec = 1000000 };

			nanosleep(&nap, NULL);
		} else {
			sched_yield();
		}
	}
	return *what == want;
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	if (pthread_create(t, NULL, fn, arg))
		ktap_bail("pthread_create: %s", strerror(errno));
}

static void launch(pthread_t *t, void *(*fn)(void *))
{
	ready = 0;
	start(t, fn, NULL);
	if (!comes(&ready, 1))
		ktap_bail("the thread does not get on");
}

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
	uint64_t calls;
	int ret;

	reset();
	ktap_ok(me != DUNE_APIC_NONE, "the thread has an ID");
	calls = dune_test_hypercalls();
	ret = dune_send_interrupt(VECTOR, me);
	taken = count[VECTOR];
	calls = dune_test_hypercalls() - calls;
	ktap_ok(!ret && taken == 1, "to oneself: it is taken at once");
	ktap_eq(calls, 1, "and costs one hypercall");
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

static void *spin(void *arg)
{
	(void)arg;
	target = dune_apic_id();
	ready = 1;
	while (!stop)
		asm volatile("pause");
	return NULL;
}

/* How many of @n come, when each is waited for. */
static unsigned int ping(unsigned int vector, unsigned int n)
{
	unsigned int sent, from = count[vector];

	for (sent = 1; sent <= n; sent++) {
		dune_apic_send_ipi((uint8_t)vector, target);
		if (!comes(&count[vector], from + sent))
			break;
	}
	return sent - 1;
}

/* Vector registers and red zone in a loop; not 0: something changed. */
static unsigned long keep_registers(volatile unsigned int *until)
{
	unsigned long bad = 0;

	asm volatile("mov $0x1234567890abcdef, %%rax\n\t"
		     "movq %%rax, %%xmm0\n\tmovq %%rax, %%xmm15\n\t"
		     "mov %%rax, -8(%%rsp)\n\tmov %%rax, -128(%%rsp)\n"
		     "1:	movq %%xmm0, %%rcx\n\tcmp %%rax, %%rcx\n\tjne 2f\n\t"
		     "movq %%xmm15, %%rcx\n\tcmp %%rax, %%rcx\n\tjne 2f\n\t"
		     "cmp %%rax, -8(%%rsp)\n\tjne 2f\n\tcmp %%rax, -128(%%rsp)\n\tjne 2f\n\t"
		     "cmpl $0, (%[until])\n\tje 1b\n\t"
		     "jmp 3f\n"
		     "2:	mov $1, %[bad]\n"
		     "3:"
		     : [bad] "+r"(bad) : [until] "r"(until)
		     : "rax", "rcx", "xmm0", "xmm15", "memory", "cc");
	return bad;
}

static void *keeper(void *arg)
{
	(void)arg;
	target = dune_apic_id();
	ready = 1;
	return (void *)keep_registers(&stop);
}

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

static void running(void *(*fn)(void *), unsigned int n, const char *what)
{
	unsigned int got;
	pthread_t t;
	void *bad;

	reset();
	launch(&t, fn);
	got = ping(VECTOR, n);
	stop = 1;
	pthread_join(t, &bad);
	if (bad)
		ktap_note("%s: the thread found %lu things wrong", what, (unsigned long)bad);
	ktap_ok(got == n && count[VECTOR] == n && !bad, "%s: %u of %u come, once each", what,
		got, n);
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

static void *reader(void *arg)
{
	long ret;
	char c;

	(void)arg;
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
	usleep(20000);
	dune_apic_send_ipi(VECTOR, target);
	usleep(20000);
	ktap_eq(count[VECTOR], 0, "who sleeps in read() sleeps on");
	if (write(pipes[1], "x", 1) != 1)
		ktap_bail("write");
	pthread_join(t, &ret);
	ktap_eq((long)ret, 101, "and gets it when the call returns, with its result");
}

/* ---- ring 3 ----------------------------------------------------------- */

extern char user_spin[];
asm(".text\n" ".globl user_spin\n"
    "user_spin: mov (%r15), %rdi\n test %rdi, %rdi\n jz user_spin\n"
    "	mov $1000, %eax\n syscall\n ud2\n");

/* Calls in a loop: the ways between the rings, interrupted anywhere. */
extern char user_calls[];
asm(".globl user_calls\n"
    "user_calls: mov $0x77, %ebx\n"
    "1:	mov $1001, %eax\n	syscall\n"
    "	cmp $4711, %rax\n	jne 2f\n	cmp $0x77, %ebx\n	jne 2f\n"
    "	mov (%r15), %rdi\n	test %rdi, %rdi\n	jz 1b\n"
    "	mov $1000, %eax\n	syscall\n"
    "2:	mov $99, %edi\n	mov $1000, %eax\n	syscall\n	ud2\n");

static char *volatile user_code;
static volatile uint64_t go;
static volatile bool from_ring3;
static volatile uint64_t user_flags;

static void on_user(struct dune_tf *tf)
{
	from_ring3 |= (tf->cs & 3) == 3;
	took(VECTOR);
}

static void on_call(struct dune_tf *tf)
{
	if (tf->rax == 1001)
		tf->rax = 4711;
	else
		dune_ret_from_user((int)ARG0(tf));
}

static void *in_ring3(void *arg)
{
	static char stack[8192] __attribute__((aligned(64)));
	struct dune_tf tf;
	long ret;

	(void)arg;
	memset(&tf, 0, sizeof(tf));
	tf.rip = (uint64_t)user_code;
	tf.rsp = (uint64_t)stack + sizeof(stack);
	tf.rflags = user_flags;
	tf.r15 = (uint64_t)&go;
	target = dune_apic_id();
	ready = 1;
	ret = dune_jump_to_user(&tf);
	return (void *)(ret + 100 * (long)count[VECTOR]);
}

static void rings(void)
{
	unsigned int got;
	pthread_t t;
	void *ret;

	dune_register_syscall_handler(on_call);
	dune_register_intr_handler(VECTOR, on_user);
	user_code = user_calls;
	reset();
	go = 0;
	user_flags = 2 | FL_IF;
	launch(&t, in_ring3);
	got = ping(VECTOR, 2000);
	go = 7;
	pthread_join(t, &ret);
	ktap_ok(got == 2000 && (long)ret == 200007, "between the rings: %u of 2000 come", got);

	user_code = user_spin;
	reset();
	go = 0;
	from_ring3 = false;
	user_flags = 2 | FL_IF;
	launch(&t, in_ring3);
	usleep(5000);
	got = ping(VECTOR, 200);
	go = 7;
	pthread_join(t, &ret);
	ktap_ok(got == 200 && (long)ret == 20007 && from_ring3, "ring 3: %u of 200 come", got);

	reset();
	go = 0;
	user_flags = 2;
	launch(&t, in_ring3);
	usleep(5000);
	dune_apic_send_ipi(VECTOR, target);
	usleep(20000);
	got = count[VECTOR];
	go = 7;
	pthread_join(t, &ret);
	ktap_ok(!got && (long)ret % 100 == 7, "ring 3 with IF clear is left alone");
	comes(&count[VECTOR], 1);
	ktap_eq(count[VECTOR], 1, "ring 0 takes it");
	dune_register_intr_handler(VECTOR, on_0);
}

/* ---- page tables ------------------------------------------------------ */

static void *editor(void *arg)
{
	unsigned char *at = vm_map(64 * PGSIZE);
	unsigned long bad = 0;

	(void)arg;
	target = dune_apic_id();
	ready = 1;
	for (unsigned int n = 0; !stop; n++) {
		unsigned char *p = at + n % 64 * PGSIZE;

		bad += dune_vm_mprotect(pgroot, p, PGSIZE, PERM_R) != 0;
		bad += (*vm_entry(pgroot, p) & PTE_W) != 0;
		bad += dune_vm_mprotect(pgroot, p, PGSIZE, PERM_R | PERM_W) != 0;
		*(volatile unsigned char *)p = (unsigned char)n;
		bad += *(volatile unsigned char *)p != (unsigned char)n;
	}
	return (void *)bad;
}

/* ---- a storm ---------------------------------------------------------- */

#define ROUNDS	1500

static void *answered(void *arg)
{
	return (void *)(unsigned long)ping(VECTOR + (unsigned int)(unsigned long)arg, ROUNDS);
}

static volatile unsigned int sent[SENDERS], got_upto[SENDERS];

static void on_storm_0(struct dune_tf *tf) { (void)tf; got_upto[0] = sent[0]; took(VECTOR); }
static void on_storm_1(struct dune_tf *tf) { (void)tf; got_upto[1] = sent[1]; took(VECTOR + 1); }
static void on_storm_2(struct dune_tf *tf) { (void)tf; got_upto[2] = sent[2]; took(VECTOR + 2); }

static void *floods(void *arg)
{
	unsigned int me = (unsigned int)(unsigned long)arg;

	for (unsigned int i = 1; i <= 20 * ROUNDS; i++) {
		sent[me] = i;
		dune_apic_send_ipi((uint8_t)(VECTOR + me), target);
	}
	return NULL;
}

static void storms(void)
{
	pthread_t t[SENDERS], victim;
	unsigned int all = 0, last = 0, most = 0;
	void *ret, *bad;

	reset();
	launch(&victim, keeper);
	for (unsigned long i = 0; i < SENDERS; i++)
		start(&t[i], answered, (void *)i);
	for (unsigned int i = 0; i < SENDERS; i++) {
		pthread_join(t[i], &ret);
		all += (unsigned int)(unsigned long)ret == ROUNDS && count[VECTOR + i] == ROUNDS;
	}
	ktap_eq(all, SENDERS, "three senders at once: %d come from each, once each", ROUNDS);

	dune_register_intr_handler(VECTOR, on_storm_0);
	dune_register_intr_handler(VECTOR + 1, on_storm_1);
	dune_register_intr_handler(VECTOR + 2, on_storm_2);
	memset((void *)count, 0, sizeof(count));
	for (unsigned long i = 0; i < SENDERS; i++)
		start(&t[i], floods, (void *)i);
	for (unsigned int i = 0; i < SENDERS; i++)
		pthread_join(t[i], NULL);
	for (unsigned int i = 0; i < SENDERS; i++) {
		last += comes(&got_upto[i], 20 * ROUNDS);
		most += count[VECTOR + i] <= 20 * ROUNDS && count[VECTOR + i] > 0;
	}
	ktap_note("of %d sent by each: %u, %u, %u", 20 * ROUNDS, count[VECTOR],
		  count[VECTOR + 1], count[VECTOR + 2]);
	ktap_ok(last == SENDERS && most == SENDERS,
		"a flood: the last of each sender comes, and no more than were sent");
	stop = 1;
	pthread_join(victim, &bad);
	ktap_ok(!bad, "vector registers and red zone of the receiver stay");
	dune_register_intr_handler(VECTOR, on_0);
	dune_register_intr_handler(VECTOR + 1, on_1);
	dune_register_intr_handler(VECTOR + 2, on_2);
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
	for (int i = 0; i < 1000 && !dune_send_interrupt(VECTOR, (uint32_t)(unsigned long)id); i++)
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
	ktap_plan(DUNE_TEST_ENTER + 39 + DUNE_TEST_LEAVE);
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
	running(editor, 2000, "to one that edits page tables");
	if_clear();
	asleep();
	rings();
	storms();
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
