/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 smp */
/*
 * Restartable sequences: a critical section that is preempted in guest mode would not
 * be aborted, so no thread in Dune mode has a registration, and libc knows.
 */
#define _GNU_SOURCE
#include "../dune_test.h"
#include "../child.h"
#include "../cpus.h"

#include <pthread.h>
#include <sys/rseq.h>

static volatile struct rseq *own(void)
{
	return (volatile struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
}

static bool is_registered(void)
{
	return (int)own()->cpu_id >= 0;
}

static int raw_cpu(void)
{
	unsigned int cpu = ~0U;

	syscall(SYS_getcpu, &cpu, NULL, NULL);
	return (int)cpu;
}

/* sched_getcpu() is the kernel's answer on each CPU. */
static bool knows_its_cpu(void)
{
	bool ok = true;

	for (int i = 0; i < 6; i++) {
		double end = child_now() + 10;

		cpus_pin(0, i & 1);
		/* The vDSO learns of the move at the next entry. */
		while (sched_getcpu() != cpus_number(i & 1) && child_now() < end)
			;
		ok &= sched_getcpu() == cpus_number(i & 1) && raw_cpu() == cpus_number(i & 1);
	}
	return ok;
}

static void *in_thread(void *arg)
{
	bool *ok = arg;

	*ok = dune_test_cpl() == 0 && !is_registered() && knows_its_cpu();
	return NULL;
}

static volatile int go, native_ok;

/* A thread that stays outside keeps its own. */
static void *outside(void *arg)
{
	(void)arg;
	cpus_pin(0, 0);		/* the two ways to ask are two moments */
	native_ok = is_registered();
	while (!go)
		sched_yield();
	native_ok = native_ok && dune_test_cpl() == 3 && is_registered() &&
		    sched_getcpu() == (int)own()->cpu_id;
	return NULL;
}

int main(void)
{
	static struct rseq area __attribute__((aligned(32)));
	bool before, thread_ok = false;
	pthread_t native, t;
	struct child c;
	int status;

	ktap_plan(DUNE_TEST_ENTER + 7 + DUNE_TEST_LEAVE);
	before = __rseq_size && is_registered();
	if (pthread_create(&native, NULL, outside, NULL))
		ktap_bail("pthread_create");
	while (!native_ok)
		sched_yield();
	dune_test_enter();

	ktap_ok(before, "libc had a registration before");
	ktap_ok(!is_registered() && own()->rseq_cs == 0, "it has none now (cpu_id %d)",
		(int)own()->cpu_id);
	errno = 0;
	ktap_ok(syscall(SYS_rseq, &area, sizeof(area), 0, 0x53053053) == -1 && errno == ENOSYS &&
		syscall(SYS_rseq, own(), sizeof(area), 1, 0x53053053) == -1 && errno == ENOSYS,
		"and none is to be had: ENOSYS");
	ktap_ok(knows_its_cpu(), "sched_getcpu works without");
	if (pthread_create(&t, NULL, in_thread, &thread_ok))
		ktap_bail("pthread_create");
	pthread_join(t, NULL);
	ktap_ok(thread_ok, "so it is in a thread");
	c.pid = fork();
	if (c.pid == 0)
		_exit(dune_test_cpl() == 0 && !is_registered() && knows_its_cpu() ? 16 : 1);
	status = child_wait(&c);
	ktap_eq(status, 16 << 8, "and in a child");
	go = 1;
	pthread_join(native, NULL);
	ktap_ok(native_ok, "a thread outside Dune mode keeps its registration");
	return dune_test_done();
}
