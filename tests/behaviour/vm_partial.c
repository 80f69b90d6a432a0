/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * dune_init(false): entries are for ring 0 but for the vDSO's pages, and a GiB that
 * held nothing is the handler's.
 */
#include "../vm.h"

#include <sys/auxv.h>
#include <time.h>

#define RW	(PERM_R | PERM_W)

static void map_it(uintptr_t addr)
{
	void *va = (void *)PGADDR(addr);

	if (dune_vm_map_phys(pgroot, va, 1, (void *)dune_va_to_pa(va), RW))
		_exit(4);
}

/* All entries on the way to @va, with the marks that ring 3 needs? */
static bool user(const void *va)
{
	ptent_t *table = pgroot, e = 0;

	for (int level = 3; level >= 0; level--) {
		e = table[PDX(level, va)];
		if (!(e & PTE_P) || !(e & PTE_U))
			return false;
		if (e & PTE_PS)
			return true;
		table = (ptent_t *)PTE_ADDR(e);
	}
	return true;
}

static unsigned int user_leaves;

static int count_user(const void *arg, ptent_t *pte, void *va)
{
	(void)arg;
	(void)va;
	user_leaves += (*pte & (PTE_P | PTE_U)) == (PTE_P | PTE_U);
	return 0;
}

int main(void)
{
	unsigned char *p, *q = (unsigned char *)VM_FREE(0), *r = (unsigned char *)VM_FREE(1);
	char *vdso = (char *)getauxval(AT_SYSINFO_EHDR);
	struct timespec ts;
	int on_stack = 0;

	ktap_plan(DUNE_TEST_ENTER + 10 + DUNE_TEST_LEAVE);
	if (!dune_test_native()) {
		int ret = dune_init(false);

		if (!ret)
			ret = dune_enter();
		if (ret)
			ktap_bail("dune_enter: %s", strerror(-ret));
	}
	dune_test_prove();

	p = vm_map(PGSIZE);
	vm_write(p, 1);
	ktap_ok(!user(p) && !user(&on_stack) && !user((void *)main) && !user(pgroot),
		"memory, stack, code and tables are for ring 0");
	ktap_ok(user(vdso) && user(vdso - PGSIZE), "the vDSO's pages are for ring 3, too");
	dune_vm_page_walk(pgroot, (void *)((uintptr_t)vdso & ~BIG_PGMASK),
			  (void *)((uintptr_t)vdso | BIG_PGMASK), count_user, NULL);
	ktap_ok(user_leaves >= 2 && user_leaves < 16, "and they alone: %u pages around there", user_leaves);
	ktap_ok(clock_gettime(CLOCK_MONOTONIC, &ts) == 0, "which still work here");
	ktap_eq(pgroot[PDX(3, q)], 0, "a GiB that held nothing has an empty entry");

	mmap(q, PGSIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	vm_write(q, 2);
	ktap_ok(vm_read(q) == 2 && !user(q), "without a handler it gets one when it is touched");
	dune_register_pgflt_handler(vm_on_fault);
	mmap(r, 2 * PGSIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	vm_expect(map_it);
	vm_write(r, 3);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == FEC_W && vm_fault.addr == (uintptr_t)r,
		"with a handler, the handler is asked: not present");
	ktap_ok(vm_read(r) == 3 && vm_fault.count == 1, "and maps the page");
	vm_read(r + PGSIZE);
	ktap_eq(vm_fault.count, 2, "that page, no other");
	vm_write(p, 4);
	ktap_eq(vm_fault.count, 2, "memory from before dune_init() asks nobody");
	return dune_test_done();
}
