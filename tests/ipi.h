/* SPDX-License-Identifier: MIT */
/*
 * What the tests of interrupts between threads share: handlers that count, threads that
 * are interrupted, and waiting for it.
 */
#ifndef TESTS_IPI_H
#define TESTS_IPI_H

#include "cpus.h"
#include "vm.h"

#define VECTOR		0x40	/* and those behind it: one for each sender */

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

__attribute__((unused)) static void cli(void)
{
	dune_control_guest_ints(false);
}

__attribute__((unused)) static void sti(void)
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

__attribute__((unused)) static void on_0(struct dune_tf *tf) { (void)tf; took(VECTOR); }
__attribute__((unused)) static void on_1(struct dune_tf *tf) { (void)tf; took(VECTOR + 1); dune_apic_eoi(); }
__attribute__((unused)) static void on_2(struct dune_tf *tf) { (void)tf; took(VECTOR + 2); }

__attribute__((unused)) static void reset(void)
{
	memset((void *)count, 0, sizeof(count));
	nr_order = last_vector = 0;
	ready = stop = 0;
	if_in_handler = false;
}

/* Of all classes; @stats of any thread, or NULL natively. */
__attribute__((unused)) static uint64_t all_exits(const volatile struct dune_stats *stats)
{
	uint64_t n = 0;

	for (unsigned int i = 0; stats && i < DUNE_STAT_NR; i++)
		n += stats->exit[i].count;
	return n;
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

__attribute__((unused)) static void launch(pthread_t *t, void *(*fn)(void *))
{
	ready = 0;
	start(t, fn, NULL);
	if (!comes(&ready, 1))
		ktap_bail("the thread does not get on");
}

__attribute__((unused)) static void *spin(void *arg)
{
	(void)arg;
	target = dune_apic_id();
	ready = 1;
	while (!stop)
		asm volatile("pause");
	return NULL;
}

/* How many of @n come, when each is waited for. */
__attribute__((unused)) static unsigned int ping(unsigned int vector, unsigned int n)
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
__attribute__((unused)) static unsigned long keep_registers(volatile unsigned int *until)
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

__attribute__((unused)) static void *keeper(void *arg)
{
	(void)arg;
	target = dune_apic_id();
	ready = 1;
	return (void *)keep_registers(&stop);
}

__attribute__((unused)) static void running(void *(*fn)(void *), unsigned int n, const char *what)
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

#endif /* TESTS_IPI_H */
