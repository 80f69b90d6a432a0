/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 smp spread=40 slow-bochs=60 */
/*
 * An interrupt to a thread that runs on another CPU: natively a signal by tgkill(2), which
 * is how one thread interrupts another there, in Dune mode dune_send_interrupt().  The
 * way there and back: the handler has run, and the sender sees it.  What it costs the
 * thread that is interrupted, by its own clock and counters.  And one to oneself.
 */
#define _GNU_SOURCE
#include <signal.h>

#include "../ipi.h"
#include "bench.h"

#define TRIPS		50
#define SAMPLES		300

static volatile bool in_dune;
static volatile pid_t target_tid;
static pid_t process;

static void on_signal(int sig)
{
	(void)sig;
	count[VECTOR]++;
}

static void on_interrupt(struct dune_tf *tf)
{
	(void)tf;
	count[VECTOR]++;
}

static void send_to(pid_t tid, uint32_t id)
{
	if (in_dune)
		dune_apic_send_ipi(VECTOR, id);
	else
		syscall(SYS_tgkill, process, tid, SIGUSR1);
}

static void round_trips(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		unsigned int before = count[VECTOR];

		send_to(target_tid, target);
		while (count[VECTOR] == before)
			asm volatile("pause");
	}
}

static void to_self(unsigned int n, void *arg)
{
	pid_t tid = (pid_t)syscall(SYS_gettid);
	uint32_t me = dune_apic_id();

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		send_to(tid, me);
}

/*
 * The other thread: looks at the clock all the time, and sees what an interrupt takes, once
 * they come one by one.
 */
static volatile bool paced;
static struct {
	long cost[SAMPLES];
	volatile unsigned int nr;
	long exits;
} lost;

static void *receives(void *arg)
{
	long overhead = bench_overhead(), before, there;
	bool dune = in_dune;
	unsigned int seen;

	if (cpus_pin(0, 1) || (dune && dune_enter()) || (dune_test_cpl() == 0) != dune)
		ktap_bail("the other thread is not where it should be");
	(void)arg;
	target = dune_apic_id();
	target_tid = (pid_t)syscall(SYS_gettid);
	before = (long)all_exits(dune_vcpu_stats());
	ready = 1;
	seen = count[VECTOR];
	while (!stop) {
		uint64_t prev, now = bench_ticks(), next;

		do {
			prev = now;
			now = bench_ticks();
		} while (count[VECTOR] == seen && !stop);
		next = bench_ticks();
		there = (long)(now - prev > next - now ? now - prev : next - now);
		seen = count[VECTOR];	/* before the sender goes on */
		if (paced && lost.nr < SAMPLES && !stop)
			lost.cost[lost.nr++] = there - overhead;
	}
	lost.exits = (long)all_exits(dune_vcpu_stats()) - before;
	return NULL;
}

struct result {
	struct bench trip, receive, self;
};

static void measure(struct result *r)
{
	pthread_t t;

	ready = stop = 0;
	paced = false;
	memset(&lost, 0, sizeof(lost));
	count[VECTOR] = 0;
	if (pthread_create(&t, NULL, receives, NULL))
		ktap_bail("pthread_create");
	while (!ready)
		sched_yield();
	bench_run(&r->trip, round_trips, NULL, TRIPS);
	/* Sent as fast as they are handled, they leave the receiver no time to look. */
	paced = true;
	for (unsigned int i = 0; i < SAMPLES; i++) {
		unsigned int before = lost.nr;

		send_to(target_tid, target);
		while (lost.nr == before && before < SAMPLES)
			asm volatile("pause");
	}
	stop = 1;
	pthread_join(t, NULL);
	r->receive = bench_of(lost.cost, lost.nr);
	if (in_dune)
		r->receive.exits = lost.exits * 100 / (long)count[VECTOR];
	bench_run(&r->self, to_self, NULL, TRIPS);
}

static void report(const struct result *r, const char *where)
{
	char name[64];

	snprintf(name, sizeof(name), "ipi_%s", where);
	bench_report(name, &r->trip);
	snprintf(name, sizeof(name), "ipi_receive_%s", where);
	bench_report(name, &r->receive);
	snprintf(name, sizeof(name), "ipi_self_%s", where);
	bench_report(name, &r->self);
}

int main(void)
{
	struct sigaction act = { .sa_handler = on_signal };
	struct result native, dune;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	cpus_count();
	bench_pin();
	process = getpid();
	sigaction(SIGUSR1, &act, NULL);
	measure(&native);
	ktap_ok(lost.nr == SAMPLES, "natively the other thread took %u", count[VECTOR]);
	dune_test_enter();
	dune_register_intr_handler(VECTOR, on_interrupt);
	in_dune = true;
	measure(&dune);
	report(&native, "native");
	report(&dune, "dune");
	ktap_ok(lost.nr == SAMPLES, "in Dune mode it took %u", count[VECTOR]);
	return dune_test_done();
}
