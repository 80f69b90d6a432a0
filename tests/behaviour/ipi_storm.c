/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=4 timeout=240 smp slow-bochs=80 thorough */
/*
 * Interrupts between threads where they are hardest on the receiver: in ring 3 and on
 * the ways between the rings, while it edits page tables, and from three threads at
 * once.  The rest: ipi.c.
 */
#define _GNU_SOURCE
#include "../ipi.h"

#define SENDERS		3

/* ---- ring 3 ----------------------------------------------------------- */

extern char user_spin[];
asm(".text\n" ".globl user_spin\n"
    "user_spin: movl $1, (%r14)\n"
    "1:	mov (%r15), %rdi\n test %rdi, %rdi\n jz 1b\n"
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
static volatile unsigned int there;	/* user_spin is in ring 3 */
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
	tf.r14 = (uint64_t)&there;
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
	go = there = 0;
	from_ring3 = false;
	user_flags = 2 | FL_IF;
	launch(&t, in_ring3);
	comes(&there, 1);
	got = ping(VECTOR, 200);
	go = 7;
	pthread_join(t, &ret);
	ktap_ok(got == 200 && (long)ret == 20007 && from_ring3, "ring 3: %u of 200 come", got);

	reset();
	go = there = 0;
	user_flags = 2;
	launch(&t, in_ring3);
	comes(&there, 1);
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

int main(void)
{
	cpus_count();
	ktap_plan(DUNE_TEST_ENTER + 8 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_intr_handler(VECTOR, on_0);
	dune_register_intr_handler(VECTOR + 1, on_1);
	dune_register_intr_handler(VECTOR + 2, on_2);

	rings();
	running(editor, 2000, "to one that edits page tables");
	storms();
	return dune_test_done();
}
