/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=1 timeout=180 icount */
/*
 * Page tables in the process's own hands: one edit, one lookup, and the two loops of
 * Appel and Li, per page of 100.  PROT1: protect one page, fault on it, unprotect it
 * in the handler.  PROTN: protect all at once, then fault on each.  The handlers are
 * those of the original's bench_dune.
 */
#define _GNU_SOURCE
#include "../vm.h"
#include "bench.h"

#define NR	100
#define RW	(PERM_R | PERM_W)

static unsigned char *mem;

static void edit(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		dune_vm_mprotect(pgroot, mem, PGSIZE, i & 1 ? RW : PERM_R);
}

static void lookup(unsigned int n, void *arg)
{
	ptent_t *pte;

	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		dune_vm_lookup(pgroot, mem, CREATE_NONE, &pte);
}

static void edit_many(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		dune_vm_mprotect(pgroot, mem, NR * PGSIZE, i & 1 ? RW : PERM_R);
}

static void on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	ptent_t *pte = NULL;

	(void)fec;
	(void)tf;
	dune_vm_lookup(pgroot, (void *)addr, CREATE_NONE, &pte);
	*pte |= PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
	dune_flush_tlb_one(addr);
	vm_fault.count++;
}

static void prot1(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++)
		for (unsigned int k = 0; k < NR; k++) {
			dune_vm_mprotect(pgroot, mem + k * PGSIZE, PGSIZE, PERM_R);
			mem[k * PGSIZE] = 1;
		}
}

static void protn(unsigned int n, void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < n; i++) {
		dune_vm_mprotect(pgroot, mem, NR * PGSIZE, PERM_R);
		for (unsigned int k = 0; k < NR; k++)
			mem[k * PGSIZE] = 1;
	}
}

int main(void)
{
	struct bench b;

	ktap_plan(DUNE_TEST_ENTER + 2 + DUNE_TEST_LEAVE);
	bench_pin();
	dune_test_enter();
	mem = (unsigned char *)VM_FREE(0);
	if (dune_vm_map_pages(pgroot, mem, NR * PGSIZE, RW))
		ktap_bail("map_pages");
	memset(mem, 1, NR * PGSIZE);

	bench_run(&b, edit, NULL, 1000);
	bench_report("vm_mprotect_1", &b);
	bench_run(&b, lookup, NULL, 1000);
	bench_report("vm_lookup", &b);
	bench_run(&b, edit_many, NULL, 20);
	bench_report("vm_mprotect_100", &b);
	dune_register_pgflt_handler(on_fault);
	vm_fault.count = 0;
	bench_run(&b, prot1, NULL, 10);
	bench_report("prot1_trap_unprot_100", &b);
	ktap_eq(vm_fault.count, (BENCH_BATCHES + 1) * 10 * NR, "PROT1: each write was a fault");
	vm_fault.count = 0;
	bench_run(&b, protn, NULL, 10);
	bench_report("protn_trap_unprot_100", &b);
	ktap_eq(vm_fault.count, (BENCH_BATCHES + 1) * 10 * NR, "PROTN: each write was a fault");
	return dune_test_done();
}
