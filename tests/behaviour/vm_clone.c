/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Several page tables in a process: clone, switch, free; copy on write; and the
 * entry of new memory in tables that were cloned before it.
 */
#define _GNU_SOURCE
#include "../vm.h"

#define RW	(PERM_R | PERM_W)

static void switch_to(ptent_t *root)
{
	load_cr3(dune_va_to_pa(root));
}

static unsigned long used(void)
{
	unsigned long n = 0;

	for (int i = 0; i < num_pages; i++)
		n += pages[i].ref != 0;
	return n;
}

static void separate(void)
{
	unsigned char *p = vm_map(PGSIZE), *at = (unsigned char *)VM_FREE(0);
	unsigned long before;
	struct page *pg;
	ptent_t *clone;

	vm_expect(NULL);
	vm_write(p, 1);
	vm_entry(pgroot, p);
	dune_vm_map_pages(pgroot, at, 1, RW);
	pg = dune_vm_lookup_page(pgroot, at);
	vm_write(at, 5);
	dune_vm_free(dune_vm_clone(pgroot));	/* what waits for exception entry is there now */
	before = used();

	clone = dune_vm_clone(pgroot);
	ktap_ok(clone && clone != pgroot && used() > before, "a clone");
	ktap_eq(pg->ref, 2, "it has a reference to each page of the pool that is mapped");
	ktap_ok(vm_entry(clone, p) != vm_entry(pgroot, p) && *vm_entry(clone, p) == *vm_entry(pgroot, p),
		"entries are its own, with the same contents");
	switch_to(clone);
	ktap_ok(vm_read(p) == 1 && vm_read(at) == 5 && getpid() > 0, "a thread runs on it");
	dune_vm_mprotect(clone, p, PGSIZE, PERM_R);
	vm_expect(vm_repair_all);
	vm_write(p, 2);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == (FEC_P | FEC_W), "its rights are its own");
	dune_vm_mprotect(clone, p, PGSIZE, PERM_R);
	switch_to(pgroot);
	vm_expect(NULL);
	vm_write(p, 3);
	ktap_eq(vm_fault.count, 0, "and pgroot's are as they were");

	dune_vm_unmap(clone, at, PGSIZE);
	ktap_ok(pg->ref == 1 && vm_read(at) == 5, "unmapped there, still mapped here");
	dune_vm_free(clone);
	ktap_eq(used(), before, "free gives all back");
	dune_vm_free(pgroot);
	ktap_eq(vm_read(p), 3, "free of pgroot does nothing");
	dune_vm_unmap(pgroot, at, PGSIZE);
	munmap(p, PGSIZE);
}

static void large(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(1);
	ptent_t *clone;
	struct page *pg;

	dune_vm_map_pages(pgroot, at, 1, RW | PERM_BIG);
	pg = dune_vm_lookup_page(pgroot, at);
	vm_write(at + BIG_PGSIZE - 8, 3);
	clone = dune_vm_clone(pgroot);
	ktap_ok(pg->ref == 2 && (*vm_entry(clone, at) & PTE_PS), "a 2 MB page is shared as one");
	dune_vm_mprotect(clone, at, PGSIZE, PERM_R);
	ktap_ok(pg->ref == 513 && (*vm_entry(pgroot, at) & PTE_PS), "and split there alone");
	switch_to(clone);
	ktap_eq(vm_read(at + BIG_PGSIZE - 8), 3, "its pieces map the same");
	switch_to(pgroot);
	dune_vm_free(clone);
	ktap_eq(pg->ref, 1, "free drops every piece");
	dune_vm_unmap(pgroot, at, BIG_PGSIZE);
	ktap_eq(pg->ref, 0, "and unmap the rest");
}

static volatile int in_thread;

static void *thread(void *arg)
{
	unsigned char *p = arg;

	in_thread = PTE_ADDR(dune_read_cr3()) != (uintptr_t)pgroot && dune_in_guest() ? *p : -1;
	return NULL;
}

/* GiBs that nobody had touched when the tables were cloned. */
static void untouched(void)
{
	unsigned char *p = (unsigned char *)VM_FREE(10), *q = (unsigned char *)VM_FREE(11);
	ptent_t *clone = dune_vm_clone(pgroot);
	pthread_attr_t attr;
	pthread_t t;

	switch_to(clone);
	mmap(p, PGSIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	vm_expect(NULL);
	vm_write(p, 42);
	ktap_ok(vm_read(p) == 42 && vm_fault.count == 0, "new memory appears in a clone too, unnoticed");
	dune_vm_mprotect(clone, p, PGSIZE, PERM_R);
	vm_expect(vm_repair_all);
	vm_write(p, 43);
	ktap_eq(vm_fault.count, 1, "where it can be protected");

	/* A thread with its stack in another such GiB, created on the clone. */
	mmap(q, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, q, 1 << 20);
	vm_expect(NULL);
	if (pthread_create(&t, &attr, thread, p))
		ktap_bail("pthread_create");
	pthread_join(t, NULL);
	ktap_ok(in_thread == 43 && vm_fault.count == 0, "a thread made there runs there");
	switch_to(pgroot);
	ktap_eq(vm_read(p), 43, "pgroot shows the same memory");
	dune_vm_free(clone);
}

static void fork_on_clone(void)
{
	unsigned char *p = vm_map(PGSIZE);
	ptent_t *clone;
	int status = -1;
	pid_t pid;

	vm_write(p, 9);
	clone = dune_vm_clone(pgroot);
	dune_vm_mprotect(clone, p, PGSIZE, PERM_R);
	switch_to(clone);
	pid = fork();
	if (pid == 0) {
		bool here = dune_in_guest() && PTE_ADDR(dune_read_cr3()) == (uintptr_t)clone;

		vm_expect(vm_repair_all);
		vm_write(p, 10);
		here &= vm_fault.count == 1 && vm_read(p) == 10;
		switch_to(pgroot);
		dune_vm_free(clone);
		_exit(here && vm_read(p) == 10 ? 33 : 34);
	}
	waitpid(pid, &status, 0);
	ktap_ok(WIFEXITED(status) && WEXITSTATUS(status) == 33,
		"the child of a fork goes on with its copy of the clone (status 0x%x)", status);
	ktap_eq(vm_read(p), 9, "and the parent with its own");
	switch_to(pgroot);
	dune_vm_free(clone);
	munmap(p, PGSIZE);
}

static unsigned char *cow_page;
static volatile unsigned int go;

static void *cow_writer(void *arg)
{
	unsigned long i = (unsigned long)arg;

	if (dune_enter())
		return (void *)1;
	while (!go)
		asm volatile("pause");
	for (int k = 0; k < 64; k++)
		vm_write(cow_page + k * PGSIZE + i * 64, i + 1);
	return NULL;
}

static void copy_on_write(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(2), *p = vm_map(PGSIZE);
	ptent_t *clone;
	struct page *pg;
	pthread_t t[3];
	unsigned int good = 0;

	dune_register_pgflt_handler(dune_vm_default_pgflt_handler);
	dune_vm_map_pages(pgroot, at, 1, RW);
	pg = dune_vm_lookup_page(pgroot, at);
	vm_write(at, 77);
	vm_write(at + 8, 78);
	clone = dune_vm_clone(pgroot);
	dune_vm_mprotect(pgroot, at, PGSIZE, PERM_R | PERM_COW);
	dune_vm_mprotect(clone, at, PGSIZE, PERM_R | PERM_COW);
	vm_write(at, 1);
	ktap_ok(vm_read(at) == 1 && vm_read(at + 8) == 78 && dune_vm_lookup_page(pgroot, at) != pg &&
		pg->ref == 1, "a write copies a page that two tables share");
	ktap_eq(vm_read(dune_page2va(pg)), 77, "the other still has the old contents");
	switch_to(clone);
	vm_write(at, 2);
	ktap_ok(dune_vm_lookup_page(clone, at) == pg && vm_read(at) == 2, "which keeps its page, alone by now");
	switch_to(pgroot);
	ktap_eq(vm_read(at), 1, "and is not seen here");
	dune_vm_free(clone);

	vm_write(p, 5);
	dune_vm_mprotect(pgroot, p, PGSIZE, PERM_R | PERM_COW);
	vm_write(p, 6);
	ktap_ok(vm_read(p) == 6 && dune_vm_lookup_page(pgroot, p) != NULL &&
		vm_read(dune_page2va(dune_vm_lookup_page(pgroot, p))) == 6,
		"process memory is copied to a page of the pool");

	/* Three threads that write to the same pages. */
	cow_page = (unsigned char *)VM_FREE(3);
	dune_vm_map_pages(pgroot, cow_page, 64 * PGSIZE, RW);
	clone = dune_vm_clone(pgroot);
	dune_vm_mprotect(pgroot, cow_page, 64 * PGSIZE, PERM_R | PERM_COW);
	for (unsigned long i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, cow_writer, (void *)i);
	go = 1;
	for (unsigned long i = 0; i < 3; i++) {
		void *ret;

		pthread_join(t[i], &ret);
		good += !ret;
	}
	for (int k = 0; k < 64; k++)
		for (unsigned long i = 0; i < 3; i++)
			good += vm_read(cow_page + k * PGSIZE + i * 64) == i + 1;
	ktap_eq(good, 3 + 64 * 3, "of three threads that write to 64 pages at once no write is lost");
	dune_vm_free(clone);
	dune_register_pgflt_handler(vm_on_fault);
}

static sigjmp_buf out;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(out, 1);
}

static void not_cow(void)
{
	unsigned char *p = vm_map(PGSIZE);
	volatile bool caught = false;

	vm_write(p, 5);
	dune_register_pgflt_handler(dune_vm_default_pgflt_handler);
	signal(SIGSEGV, on_segv);
	dune_vm_mprotect(pgroot, p, PGSIZE, PERM_R);
	if (sigsetjmp(out, 1) == 0)
		vm_write(p, 6);
	else
		caught = true;
	signal(SIGSEGV, SIG_DFL);
	dune_register_pgflt_handler(vm_on_fault);
	ktap_ok(caught && vm_read(p) == 5, "a fault that is none of copy on write raises SIGSEGV");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 9 + 5 + 4 + 2 + 6 + 1 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_pgflt_handler(vm_on_fault);
	separate();
	large();
	untouched();
	fork_on_clone();
	copy_on_write();
	not_cow();
	return dune_test_done();
}
