// SPDX-License-Identifier: MIT
/*
 * Several roots: clone, free, copy on write.
 *
 * Lean code.
 */
#include <errno.h>

#include "vm.h"

/* ---- free --------------------------------------------------------------- */

/* Below the root: no thread runs on it, so no TLB needs a flush but by PCID. */
static void drop_all(struct vm_op *op)
{
	for (uint64_t i = 0; i < PTRS; i++) {
		uint64_t va = (uint64_t)((int64_t)(i << (PDSHIFT(3) + 16)) >> 16);

		__dune_drop(op, __atomic_exchange_n(&op->root[i], 0, __ATOMIC_ACQ_REL), 3, va);
	}
}

static void forget_clone(struct page *pg)
{
	for (struct page **at = &__dune_clones; *at; at = &(*at)->link.sle_next) {
		if (*at == pg) {
			*at = pg->link.sle_next;
			return;
		}
	}
}

static void free_locked(ptent_t *root)
{
	struct vm_op op = { .root = root };

	drop_all(&op);
	/* More than 32 pages: all of the root. */
	__dune_op_done(&op, 0, ~0ULL);
	__dune_table_free(root);
}

DUNE_EXPORT void dune_vm_free(ptent_t *root)
{
	uint64_t pa;

	if (!root || root == pgroot)
		return;
	pa = __dune_gpa((uint64_t)root);
	__dune_vm_lock();
	if (dune_page_isfrompool(pa))
		forget_clone(dune_pa2page(pa));
	free_locked(root);
	__dune_vm_unlock();
}

/* ---- clone -------------------------------------------------------------- */

/* Entries that are changed by hand meanwhile are copied as they are or as they were. */
static int copy_table(ptent_t *to, const ptent_t *from, int level, uint64_t va)
{
	for (unsigned int i = 0; i < PTRS; i++) {
		uint64_t at = va + i * SIZE_OF(level);
		ptent_t e = pt_load(&from[i]), *table;
		struct page *pg;
		int ret;

		if (level == 3 && i >= PTRS / 2)
			at |= 0xffff000000000000ULL;
		if (!pt_is_table(e, level)) {
			pg = dune_pte_lazy(e, level) ? NULL : __dune_owned_page(e, at);
			if (pg)
				__atomic_add_fetch(&pg->ref, 1, __ATOMIC_ACQ_REL);
			to[i] = e;
			continue;
		}
		if (!pt_table(e)) {
			to[i] = e;
			continue;
		}
		table = __dune_table_alloc();
		if (!table)
			return -ENOMEM;
		to[i] = PTE_FLAGS(e) | PTE_ADDR(pt_entry(table));
		ret = copy_table(table, pt_table(e), level - 1, at);
		if (ret)
			return ret;
	}
	return 0;
}

DUNE_EXPORT ptent_t *dune_vm_clone(ptent_t *root)
{
	struct page *pg;
	ptent_t *to;

	__dune_vm_lock();
	to = __dune_table_alloc();
	if (to && copy_table(to, root, 3, 0)) {
		free_locked(to);
		to = NULL;
	}
	if (to) {
		pg = dune_pa2page(pt_entry(to) - PT_TABLE);
		pg->link.sle_next = __dune_clones;
		__atomic_store_n(&__dune_clones, pg, __ATOMIC_RELEASE);
		__dune_spares_fill();
	}
	__dune_vm_unlock();
	return to;
}

/* ---- copy on write ------------------------------------------------------ */

/*
 * The 4 KB entry for @va, if it says COW.  Larger ones that do are split: one page
 * is copied, not all.
 */
static ptent_t *cow_entry(ptent_t *root, uint64_t va)
{
	ptent_t *table = root, e;

	for (int level = 3; table; ) {
		ptent_t *entry = &table[PDX(level, va)];

		e = pt_load(entry);
		if (!pt_is_table(e, level)) {
			if ((e & (PTE_P | PTE_COW)) != (PTE_P | PTE_COW) || dune_pte_lazy(e, level))
				return NULL;
			if (!level)
				return entry;
			if (__dune_split_at(entry, level, va))
				return NULL;
			continue;
		}
		table = pt_table(e);
		level--;
	}
	return NULL;
}

static bool is_writable(const ptent_t *table, uint64_t va)
{
	for (int level = 3; table; level--) {
		ptent_t e = pt_load(&table[PDX(level, va)]);

		if (!pt_is_table(e, level))
			return (e & (PTE_P | PTE_W)) == (PTE_P | PTE_W) && !dune_pte_lazy(e, level);
		table = pt_table(e);
	}
	return false;
}

static ptent_t own(ptent_t e)
{
	return (e & ~PTE_COW) | PTE_W;
}

/* Put @to in place of @e.  False: the entry was changed by hand meanwhile. */
static bool replace(ptent_t *root, ptent_t *entry, ptent_t e, ptent_t to, uint64_t va)
{
	struct vm_op op = { .root = root };

	if (!pt_swap(entry, e, to))
		return false;
	if (PTE_ADDR(e) == PTE_ADDR(to))
		op.seen |= e;
	else
		__dune_drop(&op, e, 0, va);
	__dune_op_done(&op, va, va);
	return true;
}

/*
 * True: the access can be made again.  The page is copied without the lock, since
 * reading it may be a page fault; it does not change, as it cannot be written to.
 */
static bool copy_on_write(ptent_t *root, uint64_t va)
{
	struct page *copy = NULL, *pg;
	ptent_t *entry, e, seen = 0;
	bool done = false;

	va &= ~PGMASK;
	for (;;) {
		__dune_vm_lock();
		entry = cow_entry(root, va);
		e = entry ? pt_load(entry) : 0;
		if (!entry) {
			/* Perhaps another thread was here before. */
			done = is_writable(root, va);
			break;
		}
		pg = __dune_owned_page(e, va);
		if (pg && pg->ref == 1) {
			done = replace(root, entry, e, own(e), va);
		} else if (!copy) {
			copy = __dune_page_take(DUNE_ORDER_4K);
			if (!copy)
				break;
		} else if ((e | PTE_A) == seen) {
			ptent_t to = PTE_FLAGS(own(e)) | dune_page2pa(copy);

			done = replace(root, entry, e, to, va);
			if (done)
				copy = NULL;
		}
		if (done)
			break;
		__dune_vm_unlock();
		seen = e | PTE_A;
		if (copy)
			__dune_copy(dune_page2va(copy), (const void *)va, PGSIZE);
	}
	if (copy) {
		copy->ref = 0;
		__dune_page_give(copy);
	}
	__dune_vm_unlock();
	return done;
}

DUNE_EXPORT void dune_vm_default_pgflt_handler(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	ptent_t *root = __dune_running_root();

	if (root && (fec & (FEC_P | FEC_W | FEC_RSV)) == (FEC_P | FEC_W) &&
	    copy_on_write(root, addr))
		return;
	__dune_hypercall(DUNE_ASK_TRAP, (uint64_t)tf, 14, addr);
}
