/* SPDX-License-Identifier: MIT */
/* dunelab: cpus=2 timeout=120 */
/*
 * Editing page tables: lookup, map, protect, unmap, walk, pages of 4 KB, 2 MB and
 * 1 GB, and each error.
 */
#include "../vm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#define RW	(PERM_R | PERM_W)
#define MB2	BIG_PGSIZE
#define GB1	GIANT_PGSIZE

static bool has_1gb;

static void layout(void)
{
	int on_stack;
	unsigned char *p = vm_map(PGSIZE);
	struct page *pg = dune_page_alloc();

	ktap_eq(dune_va_to_pa((void *)0x12345678), 0x12345678, "low addresses: physical is virtual");
	ktap_ok((uintptr_t)pgroot == dune_va_to_pa(pgroot) &&
		PTE_ADDR(dune_read_cr3()) == (uintptr_t)pgroot, "pgroot is what CR3 holds");
	ktap_ok(pg && dune_page2pa(pg) == (uintptr_t)dune_page2va(pg) &&
		dune_page2pa(pg) >= PAGEBASE && dune_page2pa(pg) < PAGEBASE + (4UL << 30) &&
		dune_pa2page(dune_page2pa(pg)) == pg && dune_page_isfrompool(dune_page2pa(pg)),
		"a page of the pool lies at PAGEBASE, physical is virtual");
	dune_page_free(pg);
	ktap_ok((uintptr_t)p >= mmap_base && (uintptr_t)p < mmap_base + GPA_MAP_SIZE &&
		dune_va_to_pa(p) == (uintptr_t)p - mmap_base + phys_limit - GPA_STACK_SIZE -
				    GPA_MAP_SIZE &&
		dune_mmap_addr_to_pa(p) == dune_va_to_pa(p), "mmap's addresses follow mmap_base");
	ktap_ok((uintptr_t)&on_stack >= stack_base &&
		dune_va_to_pa(&on_stack) == (uintptr_t)&on_stack - stack_base + phys_limit -
					    GPA_STACK_SIZE &&
		dune_stack_addr_to_pa(&on_stack) == dune_va_to_pa(&on_stack),
		"the stack's follow stack_base");
	ktap_ok(dune_pa_to_va(dune_va_to_pa(p)) == p &&
		dune_pa_to_va(dune_va_to_pa(&on_stack)) == (void *)&on_stack &&
		dune_pa_to_va(dune_va_to_pa((void *)layout)) == (void *)layout &&
		dune_pa_to_va(~0UL << 40) == NULL, "dune_pa_to_va() is the inverse");
	ktap_ok(dune_va_to_pa((void *)(1UL << 47)) == (uintptr_t)-1, "the kernel's half has none");
	munmap(p, PGSIZE);
}

static void lookups(void)
{
	unsigned char *p = vm_map(PGSIZE);
	void *free_va = (void *)(0xffffc00000000000UL);
	ptent_t *pte, *again;

	*p = 1;
	pte = vm_entry(pgroot, p);
	ktap_ok(PTE_ADDR(*pte) == dune_va_to_pa(p) && (*pte & (PTE_P | PTE_W | PTE_U | PTE_NX | PTE_PS)) ==
		(PTE_P | PTE_W | PTE_U), "lookup gives a 4 KB entry with all rights");
	ktap_ok(vm_entry(pgroot, p + 0xfff) == pte, "for every byte of the page the same");
	ktap_ok(dune_vm_lookup(pgroot, p, CREATE_BIG, &again) == 0 && again != pte &&
		(PTE_ADDR(*again) == dune_va_to_pa(pte) - PGOFF(pte)), "CREATE_BIG: the table it is in");
	ktap_eq(dune_vm_lookup(pgroot, free_va, CREATE_NONE, &pte), -ENOENT, "no table: ENOENT");
	ktap_ok(dune_vm_lookup(pgroot, free_va, CREATE_NORMAL, &pte) == 0 && *pte == 0,
		"CREATE_NORMAL makes an empty entry");
	ktap_ok(dune_vm_lookup(pgroot, free_va, CREATE_NONE, &again) == 0 && again == pte,
		"which is found again");
	ktap_eq(dune_vm_lookup(pgroot, (void *)(1UL << 47), CREATE_NONE, &pte), -EINVAL,
		"an address that is not canonical: EINVAL");
	ktap_ok(dune_vm_lookup(pgroot, p, 4, &pte) == -EINVAL && dune_vm_lookup(pgroot, p, -1, &pte) == -EINVAL,
		"an unknown way to create: EINVAL");
	dune_vm_unmap(pgroot, free_va, 1);
	ktap_eq(dune_vm_lookup(pgroot, free_va, CREATE_NONE, &pte), -ENOENT,
		"unmap takes the empty tables away");
	munmap(p, PGSIZE);
}

static void protect(void)
{
	unsigned char *p = vm_map(8 * PGSIZE);
	ptent_t *pte = vm_entry(pgroot, p + PGSIZE);

	memset(p, 7, 8 * PGSIZE);
	ktap_eq(dune_vm_mprotect(pgroot, p, PGSIZE, PERM_W), -EINVAL, "W without R: EINVAL");
	ktap_eq(dune_vm_mprotect(pgroot, p, ~0UL, PERM_R), -EINVAL, "a range that wraps: EINVAL");
	ktap_eq(dune_vm_mprotect(pgroot, p, 1UL << 47, PERM_R), -EINVAL,
		"a range over the end of user addresses: EINVAL");
	ktap_eq(dune_vm_mprotect(pgroot, p, 1, 0x8000), -EINVAL, "an unknown right: EINVAL");

	ktap_eq(dune_vm_mprotect(pgroot, p + PGSIZE, 1, PERM_R | PERM_USR1 | PERM_USR3), 0,
		"one page read-only");
	ktap_ok((*pte & (PTE_P | PTE_W | PTE_U | PTE_NX | PTE_USR1 | PTE_USR2 | PTE_USR3)) ==
		(PTE_P | PTE_NX | PTE_USR1 | PTE_USR3), "the entry says so, USR bits and all");
	vm_expect(vm_repair_all);
	ktap_ok(vm_read(p + PGSIZE) == 0x0707070707070707UL && vm_fault.count == 0, "it can be read");
	vm_write(p + PGSIZE + 8, 1);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == (FEC_P | FEC_W) &&
		vm_fault.addr == (uintptr_t)p + PGSIZE + 8, "a write is a fault: P and W");
	vm_expect(vm_repair_all);
	vm_write(p, 1);
	vm_write(p + 2 * PGSIZE, 1);
	ktap_eq(vm_fault.count, 0, "the pages beside it are as they were");

	ktap_eq(dune_vm_mprotect(pgroot, p + PGSIZE + 100, 2 * PGSIZE, PERM_NONE), 0,
		"PERM_NONE for all that the range touches");
	vm_expect(vm_repair_all);
	ktap_ok(vm_read(p + 3 * PGSIZE) == 0x0707070707070707UL && vm_fault.count == 1 && vm_fault.fec == 0,
		"three pages, the last one too: not present");
	ktap_ok(vm_read(p + 4 * PGSIZE) == 0x0707070707070707UL && vm_fault.count == 1, "not the fourth");
	ktap_ok(vm_read(p + PGSIZE + 16) == 0x0707070707070707UL && vm_fault.count == 2,
		"and mprotect brings the page back");
	dune_vm_mprotect(pgroot, p, 8 * PGSIZE, RW | PERM_X | PERM_U);

	/* Many pages at once, and the other TLB entries. */
	p = vm_map(100 * PGSIZE);
	memset(p, 1, 100 * PGSIZE);
	dune_vm_mprotect(pgroot, p, 100 * PGSIZE, PERM_R);
	vm_expect(vm_repair_all);
	for (int i = 0; i < 60; i++)
		vm_write(p + i * PGSIZE, 2);
	ktap_eq(vm_fault.count, 60, "100 pages protected at once: each write is a fault");
	dune_vm_mprotect(pgroot, p, 100 * PGSIZE, RW);
	vm_expect(NULL);
	for (int i = 0; i < 100; i++)
		vm_write(p + i * PGSIZE, 2);
	ktap_eq(vm_fault.count, 0, "and none after all were given back");
	munmap(p, 100 * PGSIZE);
}

/* Instructions: mov $42, %eax; ret */
static void execution(void)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	unsigned char *p = mmap(NULL, PGSIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int (*fn)(void) = (int (*)(void))(void *)p;

	memcpy(p, code, sizeof(code));
	dune_vm_mprotect(pgroot, p, PGSIZE, PERM_R);
	vm_expect(vm_repair_all);
	ktap_ok(fn() == 42 && vm_fault.count == 1 && (vm_fault.fec & (FEC_I | FEC_W)) == FEC_I,
		"without PERM_X a call is a fault: I");
	munmap(p, PGSIZE);
}

static void mapping(void)
{
	unsigned char *p = vm_map(4 * PGSIZE), *at = (unsigned char *)VM_FREE(0);
	void *pa = (void *)dune_va_to_pa(p);
	struct page *pg;

	memset(p, 3, 4 * PGSIZE);
	vm_expect(NULL);
	ktap_eq(dune_vm_map_phys(pgroot, at, 4 * PGSIZE, pa, RW), 0, "map_phys");
	vm_write(at + PGSIZE, 99);
	ktap_ok(vm_read(p + PGSIZE) == 99 && vm_read(at) == 0x0303030303030303UL,
		"the memory is seen at both addresses");
	ktap_eq(dune_vm_map_phys(pgroot, at, PGSIZE, (char *)pa + PGSIZE, RW), 0, "mapped over");
	ktap_eq(vm_read(at), 99, "the TLB knows at once");
	ktap_eq(dune_vm_map_phys(pgroot, at, PGSIZE, (char *)pa + 1, RW), -EINVAL, "not aligned alike: EINVAL");
	ktap_eq(dune_vm_map_phys(pgroot, at, PGSIZE, (void *)(1UL << 50), RW), -EINVAL,
		"beyond the CPU's width: EINVAL");
	ktap_eq(dune_vm_map_phys(pgroot, at, PGSIZE, pa, PERM_W), -EINVAL, "W without R: EINVAL");
	ktap_eq(dune_vm_map_phys(pgroot, at, PGSIZE, pa, RW | PERM_BIG | PERM_BIG_1GB), -EINVAL,
		"both sizes: EINVAL");
	ktap_eq(dune_vm_map_phys(pgroot, (void *)((1UL << 47) - PGSIZE), 2 * PGSIZE, pa, RW), -EINVAL,
		"into what is not canonical: EINVAL");

	ktap_eq(dune_vm_map_pages(pgroot, at, 1, RW), 0, "map_pages of one byte");
	pg = dune_vm_lookup_page(pgroot, at);
	ktap_ok(pg && pg->ref == 1 && vm_read(at + PGSIZE - 8) == 0 && vm_read(at + PGSIZE) == 99,
		"is one zeroed page of the pool, with one reference");
	ktap_ok(dune_vm_lookup_page(pgroot, at + PGSIZE) == NULL, "process memory is no page of the pool");
	ktap_eq(dune_vm_insert_page(pgroot, at + 8 * PGSIZE, pg, RW), 0, "insert_page");
	vm_write(at + 8, 17);
	ktap_ok(pg->ref == 2 && vm_read(at + 8 * PGSIZE + 8) == 17 &&
		dune_vm_lookup_page(pgroot, at + 8 * PGSIZE) == pg, "shows it twice, two references");
	dune_page_get(pg);
	dune_vm_unmap(pgroot, at, 16 * PGSIZE);
	ktap_eq(pg->ref, 1, "unmap drops both, mine stays");
	vm_expect(NULL);
	ktap_eq(vm_read((char *)dune_page2va(pg) + 8), 17, "and the page's own address still shows it");
	dune_page_put(pg);
	ktap_eq(pg->ref, 0, "free at last");
	ktap_eq(dune_vm_insert_page(pgroot, at, pg, RW), -EINVAL, "a free page cannot be inserted");
	munmap(p, 4 * PGSIZE);
}

static void repair_unmapped(uintptr_t addr)
{
	if (dune_vm_map_pages(pgroot, (void *)PGADDR(addr), 1, RW))
		_exit(4);
}

static void unmapping(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(1);
	ptent_t *pte;

	dune_vm_map_pages(pgroot, at, 3 * PGSIZE, RW);
	dune_vm_unmap(pgroot, at + PGSIZE + 5, 1);
	vm_expect(repair_unmapped);
	vm_write(at, 1);
	vm_write(at + 2 * PGSIZE, 1);
	ktap_eq(vm_fault.count, 0, "unmap takes the page that it touches, no other");
	vm_write(at + PGSIZE, 1);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == FEC_W, "the access is a fault: not present");
	dune_vm_unmap(pgroot, at, ~0UL);
	dune_vm_unmap(pgroot, at, 0);
	vm_expect(NULL);
	vm_write(at, 1);
	ktap_eq(vm_fault.count, 0, "a range that wraps, and an empty one, unmap nothing");
	dune_vm_unmap(pgroot, at, GB1);
	ktap_eq(dune_vm_lookup(pgroot, at, CREATE_NONE, &pte), -ENOENT, "tables go with what they held");
}

/* How many pages of the pool are in use, by taking all structs of it. */
static unsigned long used(void)
{
	unsigned long n = 0;

	for (int i = 0; i < num_pages; i++)
		n += pages[i].ref != 0;
	return n;
}

static void no_leak(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(2);
	unsigned long before;

	/* The GiB around has libdune's entries with this: take them away. */
	dune_vm_unmap(pgroot, at, GB1);
	dune_vm_map_pages(pgroot, at, 1, RW);
	dune_vm_unmap(pgroot, at, 1);
	before = used();
	for (unsigned long i = 0; i < 50; i++) {
		dune_vm_map_pages(pgroot, at + i * (MB2 + PGSIZE), 3 * PGSIZE, RW);
		dune_vm_unmap(pgroot, at + i * (MB2 + PGSIZE), 3 * PGSIZE);
	}
	ktap_eq(used(), before, "50 times mapped and unmapped elsewhere: no page is lost");
}

static unsigned int visits;
static uintptr_t visited[8];

static int visit(const void *arg, ptent_t *pte, void *va)
{
	if (visits < 8)
		visited[visits] = (uintptr_t)va;
	visits++;
	if (arg && visits == *(const unsigned int *)arg)
		return 77;
	return *pte == 0 && arg == NULL;
}

static void walking(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(3), *p = vm_map(4 * PGSIZE);
	unsigned int stop = 2;

	dune_vm_unmap(pgroot, at, GB1);
	dune_vm_map_pages(pgroot, at + PGSIZE, 2 * PGSIZE, RW);
	dune_vm_map_phys(pgroot, at + 2 * MB2, MB2, (void *)0x40000000, RW | PERM_BIG);
	visits = 0;
	ktap_eq(dune_vm_page_walk(pgroot, at, at + 4 * MB2 - 1, visit, NULL), 0, "page_walk");
	ktap_ok(visits == 3 && visited[0] == (uintptr_t)at + PGSIZE &&
		visited[1] == (uintptr_t)at + 2 * PGSIZE && visited[2] == (uintptr_t)at + 2 * MB2,
		"sees what is there, in order, a 2 MB page once");
	visits = 0;
	dune_vm_page_walk(pgroot, at, at + PGSIZE, visit, NULL);
	ktap_eq(visits, 1, "the end is inclusive");
	visits = 0;
	ktap_ok(dune_vm_page_walk(pgroot, at, at + 4 * MB2, visit, &stop) == 77 && visits == 2,
		"what the callback returns ends the walk");
	visits = 0;
	ktap_ok(__dune_vm_page_walk(pgroot, at + MB2, at + MB2 + 4 * PGSIZE - 1, visit, &(unsigned int){ 0 }, 3,
				    CREATE_NORMAL) == 0 && visits == 4, "with CREATE_NORMAL it sees empty entries");
	visits = 0;
	dune_vm_page_walk(pgroot, p, p + 4 * PGSIZE - 1, visit, NULL);
	ktap_ok(visits == 4 && visited[3] == (uintptr_t)p + 3 * PGSIZE, "process memory comes by 4 KB");
	visits = 0;
	ktap_ok(dune_vm_page_walk(pgroot, (void *)VM_FREE(40), (void *)(VM_FREE(50) - 1), visit, NULL) == 0 &&
		visits == 0, "GiBs that nobody has touched are passed over");
	ktap_eq(dune_vm_page_walk(pgroot, p, p - 1, visit, NULL), -EINVAL, "backwards: EINVAL");
	dune_vm_unmap(pgroot, at, GB1);
}

static void large(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(4);
	struct page *pg;
	ptent_t *pte;

	vm_expect(NULL);
	ktap_eq(dune_vm_map_pages(pgroot, at, 1, RW | PERM_BIG), 0, "map_pages of 2 MB");
	pte = vm_entry(pgroot, at + 0x12345);
	pg = dune_vm_lookup_page(pgroot, at + 0x12345);
	ktap_ok((*pte & (PTE_P | PTE_PS)) == (PTE_P | PTE_PS) && pg && pg->ref == 1 &&
		!(dune_page2pa(pg) & BIG_PGMASK), "lookup gives the 2 MB entry of the program's");
	vm_write(at + MB2 - 8, 5);
	ktap_eq(vm_read((char *)dune_page2va(pg) + MB2 - 8), 5, "it maps the whole page");

	ktap_eq(dune_vm_mprotect(pgroot, at + PGSIZE, PGSIZE, PERM_R), 0, "a part of it read-only");
	vm_expect(vm_repair_all);
	vm_write(at, 1);
	vm_write(at + 2 * PGSIZE, 1);
	ktap_ok(vm_fault.count == 0 && pg->ref == 512, "splits it: 512 references");
	vm_write(at + PGSIZE, 1);
	ktap_eq(vm_fault.count, 1, "and only that part is read-only");
	dune_vm_unmap(pgroot, at, PGSIZE);
	ktap_eq(pg->ref, 511, "each piece that is unmapped is one less");
	dune_vm_unmap(pgroot, at, MB2);
	ktap_eq(pg->ref, 0, "and the rest all");

	dune_vm_map_pages(pgroot, at, 1, RW | PERM_BIG);
	dune_vm_map_pages(pgroot, at + 3 * PGSIZE, 1, RW);
	pte = vm_entry(pgroot, at + 3 * PGSIZE);
	ktap_ok(!(*pte & PTE_PS) && vm_read(at + 4 * PGSIZE) == 0, "a page mapped into a 2 MB one");
	dune_vm_map_pages(pgroot, at, 1, RW | PERM_BIG);
	pte = vm_entry(pgroot, at + 3 * PGSIZE);
	ktap_ok((*pte & PTE_PS) != 0, "and a 2 MB one over the pieces");
	dune_vm_unmap(pgroot, at, MB2);

	if (!has_1gb) {
		ktap_eq(dune_vm_map_phys(pgroot, at, GB1, 0, RW | PERM_BIG_1GB), -EINVAL,
			"1 GB on a CPU without: EINVAL");
		for (int i = 0; i < 3; i++)
			ktap_skip("1 GB pages", "the CPU has none");
		return;
	}
	ktap_eq(dune_vm_map_phys(pgroot, at, GB1, (void *)0x40000000, RW | PERM_BIG_1GB), 0, "map_phys of 1 GB");
	mmap((void *)0x40000000, PGSIZE, PROT_READ | PROT_WRITE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	vm_expect(NULL);
	vm_write((void *)0x40000000, 1234);
	pte = vm_entry(pgroot, at + 0x1234567);
	ktap_ok(vm_read(at) == 1234 && (*pte & PTE_PS) && PTE_ADDR(*pte) == 0x40000000, "shows the memory");
	dune_vm_mprotect(pgroot, at, PGSIZE, PERM_R);
	pte = vm_entry(pgroot, at + 0x1234567);
	ktap_ok(vm_read(at) == 1234 && (*pte & PTE_PS) && PTE_ADDR(*pte) == 0x41200000,
		"a part of it read-only: split to 2 MB, and to 4 KB there");
	dune_vm_unmap(pgroot, at, GB1);
	ktap_eq(dune_vm_lookup(pgroot, at, CREATE_NONE, &pte), -ENOENT, "gone");
}

static void raw(void)
{
	unsigned char *p = vm_map(PGSIZE);
	ptent_t *pte, *table = pgroot;
	volatile ptent_t *e;

	*p = 1;
	pte = vm_entry(pgroot, p);
	for (int level = 3; level > 0; level--)
		table = (ptent_t *)PTE_ADDR(table[PDX(level, p)]);
	e = &table[PDX(0, p)];
	ktap_ok(e == pte, "following PTE_ADDR() as pointers from pgroot leads to the entry");
	*e &= ~(PTE_A | PTE_D);
	dune_flush_tlb_one((unsigned long)p);
	vm_read(p);
	ktap_eq(*e & (PTE_A | PTE_D), PTE_A, "a read sets A");
	vm_write(p, 1);
	ktap_eq(*e & (PTE_A | PTE_D), PTE_A | PTE_D, "a write sets D");
	dune_vm_mprotect(pgroot, p, 1, PERM_R);
	ktap_eq(*e & (PTE_A | PTE_D), PTE_A | PTE_D, "mprotect keeps both");
	vm_expect(vm_repair_all);
	vm_write(p, 1);
	*e &= ~PTE_P;
	dune_flush_tlb_one((unsigned long)p);
	vm_expect(vm_repair_all);
	vm_read(p);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == 0, "P cleared by hand: a fault, and mprotect repairs");
	munmap(p, PGSIZE);
}

static void uncached(void)
{
	unsigned char *p = vm_map(PGSIZE);
	ptent_t *pte = vm_entry(pgroot, p);

	vm_write(p, 8);
	ktap_ok(dune_vm_mprotect(pgroot, p, PGSIZE, RW | PERM_UC) == 0 && (*pte & PTE_PCD), "PERM_UC");
	vm_write(p + 8, 9);
	ktap_ok(vm_read(p) == 8 && vm_read(p + 8) == 9, "uncached memory works");
	munmap(p, PGSIZE);
}

/* The firmware's ROM, which the mm maps by VM_PFNMAP. */
static void device(void)
{
	unsigned char *at = (unsigned char *)VM_FREE(7), *rom, copy[64];
	int fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	unsigned int same = 0;

	rom = mmap(NULL, PGSIZE, PROT_READ, MAP_SHARED, fd, 0xff000);
	if (rom == MAP_FAILED || pread(fd, copy, sizeof(copy), 0xfffc0) != sizeof(copy)) {
		ktap_skip("a mapping of a device", "this kernel does not give out /dev/mem");
		ktap_skip("the same by an entry of the program's", "neither");
		return;
	}
	vm_expect(NULL);
	ktap_ok(!memcmp(rom + 0xfc0, copy, sizeof(copy)) && rom[0xff0] == 0xea,
		"a mapping of a device shows it: the reset vector is a far jump");
	if (dune_vm_map_phys(pgroot, at, PGSIZE, (void *)dune_va_to_pa(rom), PERM_R | PERM_UC))
		ktap_bail("map_phys");
	for (unsigned int i = 0; i < sizeof(copy); i++)
		same += at[0xfc0 + i] == copy[i];
	ktap_ok(same == sizeof(copy) && vm_fault.count == 0, "and so does an uncached entry of the program's");
	dune_vm_unmap(pgroot, at, PGSIZE);
	munmap(rom, PGSIZE);
	close(fd);
}

static void absent(void)
{
	unsigned char *p = (unsigned char *)VM_FREE(6);
	ptent_t *root = pgroot;
	const ptent_t *top = &root[PDX(3, VM_FREE(40))];

	ktap_ok(dune_pte_lazy(*top, 3), "an untouched 512 GiB is marked in the root");
	mmap(p, PGSIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	vm_expect(NULL);
	vm_write(p, 1);
	ktap_ok(vm_fault.count == 0 && vm_read(p) == 1, "a new GiB is no fault of the handler's");
	munmap(p, PGSIZE);
	dune_vm_unmap(pgroot, p, GB1);
	vm_expect(repair_unmapped);
	vm_write(p, 1);
	ktap_ok(vm_fault.count == 1 && vm_fault.fec == FEC_W, "one that was unmapped is, without RSV");
}

int main(void)
{
	ktap_plan(DUNE_TEST_ENTER + 7 + 9 + 16 + 1 + 18 + 4 + 1 + 8 + 13 + 5 + 2 + 2 + 3 + DUNE_TEST_LEAVE);
	dune_test_enter();
	dune_register_pgflt_handler(vm_on_fault);
	{
		struct dune_info info;

		if (ioctl(dune_fd, DUNE_GET_INFO, &info))
			ktap_bail("DUNE_GET_INFO: %s", strerror(errno));
		has_1gb = info.features & DUNE_FEAT_1GB_PAGES;
	}
	layout();
	lookups();
	protect();
	execution();
	mapping();
	unmapping();
	no_leak();
	walking();
	large();
	raw();
	uncached();
	device();
	absent();
	return dune_test_done();
}
