/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * The page pool where guest-physical is not virtual: asked for, and because
 * something lies at PAGEBASE.
 */
#include "../vm.h"

#define RW	(PERM_R | PERM_W)

/* The same in each kind of process; a bit for each thing that is wrong. */
static unsigned int try_all(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(0), *p = vm_map(4 * PGSIZE);
	unsigned int bad = 0;
	struct page *pg, *copy;
	ptent_t *clone, *pte;

	dune_register_pgflt_handler(dune_vm_default_pgflt_handler);
	bad |= dune_va_to_pa(pgroot) == (uintptr_t)pgroot ? 1 : 0;
	bad |= PTE_ADDR(dune_read_cr3()) != dune_va_to_pa(pgroot) ? 2 : 0;
	bad |= dune_pa_to_va(dune_va_to_pa(pgroot)) != (void *)pgroot ? 4 : 0;
	bad |= dune_vm_map_pages(pgroot, at, 4 * PGSIZE, RW) ? 8 : 0;
	pg = dune_vm_lookup_page(pgroot, at);
	vm_write(at, 5);
	bad |= !pg || vm_read(dune_page2va(pg)) != 5 || dune_page2pa(pg) == (uintptr_t)dune_page2va(pg) ? 16 : 0;
	bad |= dune_va_to_pa(dune_page2va(pg)) != dune_page2pa(pg) || dune_pa2page(dune_page2pa(pg)) != pg ? 32 : 0;
	bad |= dune_vm_lookup(pgroot, p, CREATE_NONE, &pte) || PTE_ADDR(*pte) != dune_va_to_pa(p) ? 64 : 0;
	clone = dune_vm_clone(pgroot);
	dune_vm_mprotect(pgroot, at, 1, PERM_R | PERM_COW);
	load_cr3(dune_va_to_pa(clone));
	bad |= vm_read(at) != 5 ? 128 : 0;
	load_cr3(dune_va_to_pa(pgroot));
	vm_write(at, 6);
	copy = dune_vm_lookup_page(pgroot, at);
	bad |= copy == pg || vm_read(dune_page2va(pg)) != 5 || vm_read(at) != 6 ? 256 : 0;
	dune_vm_free(clone);
	bad |= pg->ref ? 512 : 0;
	dune_vm_unmap(pgroot, at, 4 * PGSIZE);
	bad |= copy->ref ? 1024 : 0;
	return bad;
}

/* In a process of its own: they differ in what dune_init() finds. */
static unsigned int in_child(void (*prepare)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		unsigned int bad;

		prepare();
		dune_test_child_enter();
		bad = try_all();
		if (bad)
			ktap_note("wrong: 0x%x", bad);
		_exit(bad ? 1 : 33);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? (unsigned int)WEXITSTATUS(status) : 256;
}

static void ask(void)
{
	dune_set_pool(false, 4UL << 30);
}

static void small(void)
{
	dune_set_pool(false, 0);
}

static void occupy(void)
{
	if (mmap((void *)(PAGEBASE + (1UL << 30)), PGSIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS |
		 MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		_exit(2);
}

int main(void)
{
	ktap_plan(3 + DUNE_TEST_ENTER + 1 + DUNE_TEST_LEAVE);
	ktap_eq(in_child(ask), 33, "a pool that may lie anywhere");
	ktap_eq(in_child(small), 33, "a small one");
	ktap_eq(in_child(occupy), 33, "a page in the way at PAGEBASE");
	dune_test_enter();
	ktap_eq((uintptr_t)pgroot, PAGEBASE, "without either it lies at PAGEBASE");
	return dune_test_done();
}
