// SPDX-License-Identifier: MIT
/*
 * The guest's page tables: a linear map in units of 1 GiB windows.
 *
 * What may really be accessed is decided by the second stage, which mirrors
 * the mm; so one present entry per GiB is enough, and mmap(), munmap() and
 * mprotect() need no action here.
 *
 * dune_init(true): a GiB without an entry is marked by a reserved bit (PTE_LAZY_*).
 * Touching it is a page fault that says so, and is answered here; any other fault is
 * the program's.  dune_init(false): its entry is empty.
 *
 * Lean code: it also runs in trap handlers, on any number of threads, and may
 * be interrupted anywhere by a signal handler.  So there is no lock: each table of
 * pgroot that is made here has one possible place, two threads that make the same
 * one write the same values, and entries are published by compare-and-exchange
 * against what stands for "not yet", which never undoes what the program wrote.
 * Those of a clone come from a few that wait (__dune_table_spare()).
 */
#include <errno.h>

#include "vm.h"

/*
 * The fixed tables, in pages: the root, a PDPT for each of the 256 root entries
 * that cover USER_END, a PD for each window that can exist.  Memory is used only
 * for pages that are written.
 */
#define FIXED_PDPT	1
#define FIXED_PD	(FIXED_PDPT + 256)

DUNE_EXPORT ptent_t *pgroot;
bool __dune_has_vsyscall;
struct page *__dune_clones;

static uint64_t nr_fixed;

static ptent_t *fixed_table(uint64_t index)
{
	return (ptent_t *)__dune_pool.va + index * PTRS;
}

bool __dune_is_fixed_table(const ptent_t *table)
{
	return (uint64_t)table - __dune_pool.va < nr_fixed * PGSIZE;
}

/* Page directories in the pool.  More than USER_END has GiBs are no use. */
static uint64_t max_pds(void)
{
	uint64_t windows = 1ULL << (__dune_info.gpa_bits - GIB_SHIFT);

	if (__dune_info.features & DUNE_FEAT_1GB_PAGES)
		return 0;
	return windows < USER_END >> GIB_SHIFT ? windows : USER_END >> GIB_SHIFT;
}

/* What an entry of @level is before anybody asked for it. */
static ptent_t not_yet(int level)
{
	if (!__dune_map_full)
		return 0;
	return level == 3 ? PTE_LAZY_TOP : PTE_LAZY_GIB;
}

/* Some CPUs (QEMU's) set A before they look at the reserved bits. */
static bool is_not_yet(ptent_t e, int level)
{
	return __dune_map_full ? dune_pte_lazy(e, level) : !e;
}

static ptent_t leaf_flags(void)
{
	return PTE_P | PTE_W | PTE_A | PTE_D | PTE_PS | PTE_LINEAR | (__dune_map_full ? PTE_U : 0);
}

/* Fill @table, which is all 0 or is being filled by somebody else too. */
static void fill_pdpt(ptent_t *table)
{
	for (unsigned int i = 0; __dune_map_full && i < PTRS; i++)
		pt_swap(&table[i], 0, PTE_LAZY_GIB);
}

static void fill_pd(ptent_t *table, uint64_t gpa)
{
	for (uint64_t i = 0; i < PTRS; i++)
		pt_swap(&table[i], 0, (gpa + (i << BIG_PGSHIFT)) | leaf_flags());
}

/* Put @to in place of what is there; false: another thread was faster. */
static bool publish(ptent_t *entry, int level, ptent_t to)
{
	ptent_t e;

	do {
		e = pt_load(entry);
		if (!is_not_yet(e, level))
			return false;
	} while (!pt_swap(entry, e, to));
	return true;
}

/* A table for @entry: at @fixed, if pgroot's, else one of the spare. */
static int publish_table(ptent_t *entry, int level, ptent_t *fixed, uint64_t gpa, bool locked)
{
	ptent_t *table = fixed ? fixed : __dune_table_spare(locked);

	if (!table)
		return -ENOMEM;
	if (level == 3)
		fill_pdpt(table);
	else
		fill_pd(table, gpa);
	if (!publish(entry, level, pt_entry(table)) && !fixed)
		__dune_table_unused(table, locked);
	return 0;
}

/*
 * The entry of @level 3 or 2 for @va is one that nobody asked for yet: make it.  0;
 * -ENOSPC no window left; -ENOMEM; what the module says.
 */
int __dune_fill(ptent_t *entry, int level, uint64_t va, bool locked)
{
	bool fixed = __dune_is_fixed_table(entry);
	uint64_t gpa;
	long ret;

	if (level == 3)
		return publish_table(entry, 3, fixed ? fixed_table(FIXED_PDPT + PDX(3, va)) : NULL,
				     0, locked);
	ret = __dune_map_window(va, &gpa);
	if (ret)
		return (int)ret;
	if (__dune_info.features & DUNE_FEAT_1GB_PAGES) {
		publish(entry, 2, gpa | leaf_flags());
		return 0;
	}
	if (fixed && gpa >> GIB_SHIFT >= max_pds())
		return -ENOSPC;
	return publish_table(entry, 2, fixed ? fixed_table(FIXED_PD + (gpa >> GIB_SHIFT)) : NULL,
			     gpa, locked);
}

/*
 * Make the GiB around @va visible in @root.  0, also if it was already; -EFAULT no
 * address of a process, or the program took it away; or as __dune_fill().
 */
int __dune_map_gib_in(ptent_t *root, uint64_t va, bool locked)
{
	ptent_t *table = root;
	int ret;

	if (va >= USER_END)
		return -EFAULT;
	for (int level = 3; level >= 2; level--) {
		ptent_t *entry = &table[PDX(level, va)];
		ptent_t e = pt_load(entry);

		if (is_not_yet(e, level)) {
			ret = __dune_fill(entry, level, va, locked);
			if (ret)
				return ret;
			e = pt_load(entry);
		}
		if (!(e & PTE_P))
			return -EFAULT;
		if (e & PTE_PS)
			return 0;
		table = pt_table(e);
		if (!table)
			return -EFAULT;
	}
	return 0;
}

int __dune_map_gib(uint64_t va)
{
	return __dune_map_gib_in(pgroot, va, false);
}

/* For what libdune itself needs wherever a thread runs: in all clones, too. */
int __dune_map_range(uint64_t va, uint64_t len)
{
	uint64_t end = va + len;
	int ret = 0;

	for (uint64_t at = va & ~(GIB - 1); at < end && !ret; at += GIB)
		ret = __dune_map_gib(at);
	if (ret || !__atomic_load_n(&__dune_clones, __ATOMIC_ACQUIRE))
		return ret;
	__dune_vm_lock();
	for (struct page *pg = __dune_clones; pg; pg = pg->link.sle_next)
		for (uint64_t at = va & ~(GIB - 1); at < end && !ret; at += GIB)
			ret = __dune_map_gib_in(dune_page2va(pg), at, true);
	__dune_vm_unlock();
	return ret;
}

/*
 * The entry that ends the walk for @va, 0 if there is none.  Tables that lie in no
 * window are not followed: their faults are the program's.
 */
static ptent_t walk(const ptent_t *table, uint64_t va, int *level)
{
	ptent_t e = 0;

	for (*level = 3; table; --*level) {
		e = pt_load(&table[PDX(*level, va)]);
		if (!pt_is_table(e, *level))
			return e;
		table = pt_table(e);
	}
	return 0;
}

/*
 * A mapping with more GiBs than this gets its windows as it is touched: there
 * are fewer windows than a mapping without reserve can have GiBs.
 */
#define EAGER_GIBS	16

/* A bit for each GiB of such a mapping. */
static uint64_t held[(USER_END >> GIB_SHIFT) / 64 + 1];

static bool gib_held(uint64_t va)
{
	uint64_t gib = va >> GIB_SHIFT;

	return va < USER_END && held[gib / 64] >> gib % 64 & 1;
}

/* In Dune mode, after __dune_map_gib(): does the walk for @va end in a page? */
bool __dune_va_present(uint64_t va)
{
	ptent_t *root = __dune_running_root(), e;
	int level;

	if (!root || (root != pgroot && __dune_map_gib_in(root, va, false)))
		return false;
	e = walk(root, va, &level);
	return e & PTE_P && !dune_pte_lazy(e, level);
}

/*
 * A page fault, on the IST stack.  True: it was about a GiB that nobody had asked
 * for, which now is there, or is since another thread was faster.
 */
bool __dune_gib_fault(uint64_t va, uint64_t err)
{
	ptent_t *root = __dune_running_root(), e;
	int level;

	if (va >= USER_END || !root)
		return false;
	if (!(err & FEC_RSV) && (err & FEC_P || __dune_map_full))
		return false;
	e = walk(root, va, &level);
	if (level < 2 || !is_not_yet(e, level))
		return err & FEC_RSV ? level && e & PTE_LINEAR : e & PTE_P;
	if (!__dune_map_full && __dune_has_pgflt_handler() && !gib_held(va))
		return false;
	return !__dune_map_gib_in(pgroot, va, false) &&
	       (root == pgroot || !__dune_map_gib_in(root, va, false));
}

uint64_t __dune_cr3(void)
{
	return pt_entry(pgroot) - PT_TABLE;
}

/* Ring 3 may call the vDSO even if it may touch nothing else. */
static int user_pages(uint64_t begin, uint64_t end)
{
	return dune_vm_mprotect(pgroot, (void *)begin, end - begin, PERM_R | PERM_X | PERM_U);
}

/* One mapping of /proc/self/maps; the vsyscall page lies above USER_END. */
static int map_existing(const struct dune_procmap_entry *e, void *arg)
{
	uint64_t begin = e->begin, end = e->end;
	bool vdso = e->type == PROCMAP_TYPE_VDSO || e->type == PROCMAP_TYPE_VVAR;

	(void)arg;
	if (begin >= USER_END) {
		__dune_has_vsyscall = true;
		return 0;
	}
	if (end - begin <= EAGER_GIBS * GIB) {
		int ret = __dune_map_range(begin, end - begin);

		return ret || !vdso || __dune_map_full ? ret : user_pages(begin, end);
	}
	for (uint64_t gib = begin >> GIB_SHIFT; gib <= (end - 1) >> GIB_SHIFT; gib++)
		held[gib / 64] |= 1ULL << gib % 64;
	return 0;
}

static int build(uint64_t stack)
{
	int ret = __dune_layout_init(stack, __dune_pool.va, __dune_pool.size);

	if (ret)
		return ret;
	__dune_pool_placed();
	pgroot = fixed_table(0);
	for (unsigned int i = 0; i < PDX(3, USER_END); i++)
		pgroot[i] = not_yet(3);
	ret = __dune_map_range(__dune_pool.va, __dune_pool.size);
	return ret ? ret : __dune_for_each_map(map_existing, NULL);
}

/* Build the tables for what is mapped now.  @stack: an address of the initial stack. */
int __dune_pgtable_init(uint64_t stack)
{
	int ret;

	__dune_vm_edit_init();
	nr_fixed = FIXED_PD + max_pds();
	ret = __dune_pool_reserve(nr_fixed * PGSIZE);
	if (ret)
		return ret;
	ret = build(stack);
	if (ret) {
		__dune_pool_release();
		__dune_layout_forget();
		pgroot = NULL;
	}
	return ret;
}
