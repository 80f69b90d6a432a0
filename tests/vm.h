/* SPDX-License-Identifier: MIT */
/* What the tests of the page tables share: memory, entries, and faults that are counted. */
#ifndef TESTS_VM_H
#define TESTS_VM_H

#include <libdune/dune.h>
#include <pthread.h>
#include <sys/mman.h>

#include "dune_test.h"

/* Addresses that no process has anything at: 64 TiB, 65 TiB, ... */
#define VM_FREE(n)	(((64UL + (n)) << 40))

__attribute__((unused)) static unsigned char *vm_map(size_t len)
{
	unsigned char *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				-1, 0);

	if (p == MAP_FAILED)
		ktap_bail("mmap of %zu bytes: %s", len, strerror(errno));
	return p;
}

/* The 4 KB (or larger) entry for @va; ends the test if there is none. */
__attribute__((unused)) static ptent_t *vm_entry(ptent_t *root, const volatile void *va)
{
	ptent_t *pte = NULL;
	int ret = dune_vm_lookup(root, (void *)va, CREATE_NONE, &pte);

	if (ret)
		ktap_bail("dune_vm_lookup(%p): %s", (void *)va, strerror(-ret));
	return pte;
}

/* The faults since vm_expect(); repair() says how to go on. */
static volatile struct {
	unsigned int count;
	uintptr_t addr;
	uint64_t fec;
} vm_fault;

static void (*volatile vm_repair)(uintptr_t addr);

__attribute__((unused)) static void vm_on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	(void)tf;
	vm_fault.count++;
	vm_fault.addr = addr;
	vm_fault.fec = fec;
	if (!vm_repair || vm_fault.count > 64) {
		dune_printf("# unexpected fault: address 0x%lx error code 0x%lx rip 0x%lx\n", addr,
			    (unsigned long)fec, (unsigned long)tf->rip);
		_exit(3);
	}
	vm_repair(addr);
}

__attribute__((unused)) static void vm_expect(void (*repair)(uintptr_t))
{
	vm_fault.count = 0;
	vm_fault.addr = 0;
	vm_fault.fec = 0;
	vm_repair = repair;
}

/* Give the page all rights back, in the running tables. */
__attribute__((unused)) static void vm_repair_all(uintptr_t addr)
{
	ptent_t *root = dune_pa_to_va(PTE_ADDR(dune_read_cr3()));

	if (dune_vm_mprotect(root, (void *)addr, 1, PERM_R | PERM_W | PERM_X))
		_exit(4);
}

__attribute__((unused)) static uint64_t vm_read(const volatile void *p)
{
	return *(const volatile uint64_t *)p;
}

__attribute__((unused)) static void vm_write(volatile void *p, uint64_t v)
{
	*(volatile uint64_t *)p = v;
}

#endif /* TESTS_VM_H */
