/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=180 smp spread=40 slow-bochs=40 */
/*
 * A page's rights are taken away and given back while another thread runs on a CPU of
 * its own, which must forget the page: mprotect(2) natively, in Dune mode
 * dune_vm_mprotect().  Both end in an interrupt to that CPU.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "bench.h"

#define EDITS		50

#ifndef OTHERS
#define OTHERS		1
#define METRIC		"shootdown_1"
#endif

static unsigned char *page;

static struct {
	volatile int stop, running;
	volatile int strange;		/* threads that were not where they should be */
	bool in_dune;
} others;

static void *spin(void *arg)
{
	if (cpus_pin(0, (int)(intptr_t)arg) || (others.in_dune && dune_enter()) ||
	    (dune_test_cpl() == 0) != others.in_dune)
		__atomic_add_fetch(&others.strange, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&others.running, 1, __ATOMIC_RELAXED);
	while (!others.stop)
		(void)*(volatile unsigned char *)page;
	return NULL;
}

static void natively(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		mprotect(page, PGSIZE, PROT_READ);
		mprotect(page, PGSIZE, PROT_READ | PROT_WRITE);
	}
}

static void in_dune(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		dune_vm_mprotect(pgroot, page, PGSIZE, PERM_R);
		dune_vm_mprotect(pgroot, page, PGSIZE, PERM_R | PERM_W);
	}
}

static void measure(struct bench *b, void (*batch)(unsigned int, void *))
{
	pthread_t thread[OTHERS];

	others.stop = 0;
	others.running = 0;
	for (unsigned int i = 0; i < OTHERS; i++)
		if (pthread_create(&thread[i], NULL, spin, (void *)(intptr_t)(i + 1)))
			ktap_bail("pthread_create");
	while (others.running < OTHERS)
		sched_yield();
	bench_run(b, batch, NULL, EDITS);
	others.stop = 1;
	for (unsigned int i = 0; i < OTHERS; i++)
		pthread_join(thread[i], NULL);
}

int main(void)
{
	struct bench native, dune;

	ktap_plan(DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	bench_pin();
	page = vm_map(PGSIZE);
	*page = 1;
	measure(&native, natively);
	dune_test_enter();
	page = (unsigned char *)VM_FREE(0);
	if (dune_vm_map_pages(pgroot, page, PGSIZE, PERM_R | PERM_W))
		ktap_bail("map_pages");
	others.in_dune = true;
	measure(&dune, in_dune);
	bench_report(METRIC "_native", &native);
	bench_report(METRIC "_dune", &dune);
	ktap_eq(others.strange, 0, "the other threads were where they should be, on their CPUs");
	return dune_test_done();
}
