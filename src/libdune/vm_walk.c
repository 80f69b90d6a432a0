// SPDX-License-Identifier: MIT
/*
 * Walking page tables: lookup, splitting, walks for edits and for programs.
 *
 * Lean code.
 */
#include <errno.h>

#include "vm.h"

/* Do both lie in the same half of the canonical addresses, in order? */
bool __dune_range_ok(uint64_t first, uint64_t last)
{
	int64_t half = (int64_t)first >> 47;

	return first <= last && (half == 0 || half == -1) && (int64_t)last >> 47 == half;
}

/*
 * The page of the pool for which the leaf @e at @va holds a reference; NULL: none.
 * At the pool's own address it holds none.
 */
struct page *__dune_owned_page(ptent_t e, uint64_t va)
{
	uint64_t pa = PTE_ADDR(e);

	if (!(e & (PTE_P | PTE_HELD)) || !dune_page_isfrompool(pa) ||
	    pa - __dune_pool.gpa + __dune_pool.va == va)
		return NULL;
	return __dune_page_head(dune_pa2page(pa));
}

/* The first byte that an entry of @level for @va covers. */
static uint64_t entry_start(uint64_t va, int level)
{
	return va & ~(SIZE_OF(level) - 1);
}

/* Entries for the pieces of @e, a leaf of @level. */
static void fill_pieces(ptent_t *table, ptent_t e, int level)
{
	uint64_t size = SIZE_OF(level - 1);
	ptent_t pat = e & 0x1000;	/* PAT's place in an entry of 2 MB or 1 GB */
	ptent_t base = PTE_ADDR(e) & ~(SIZE_OF(level) - 1);
	ptent_t flags = PTE_FLAGS(e) | pat;

	if (level == 1)
		flags = (flags & ~(PTE_PS | PTE_LINEAR | 0x1000)) | (pat ? PTE_PAT : 0);
	for (unsigned int i = 0; i < PTRS; i++)
		table[i] = (base + i * size) | flags;
}

/*
 * Put a table with the same meaning in place of the leaf in @entry, which is of
 * @level.  0, also if it changed meanwhile; -ENOMEM.  A TLB that still has the large
 * page is right, and loses it by INVLPG for any address in it (SDM 4.10.4.1).
 */
static int split(ptent_t *entry, int level)
{
	ptent_t e = pt_load(entry), *table;

	if (!(e & PTE_PS))
		return 0;
	table = __dune_table_alloc();
	if (!table)
		return -ENOMEM;
	fill_pieces(table, e, level);
	if (!pt_swap(entry, e, pt_entry(table)))
		__dune_table_free(table);
	return 0;
}

/* Each piece of a page of the pool gets a reference of its own. */
int __dune_split_at(ptent_t *entry, int level, uint64_t va)
{
	ptent_t e = pt_load(entry);
	struct page *pg = e & PTE_PS ? __dune_owned_page(e, entry_start(va, level)) : NULL;
	int ret = split(entry, level);

	if (pg && !ret)
		__atomic_add_fetch(&pg->ref, PTRS - 1, __ATOMIC_ACQ_REL);
	return ret;
}

/* An empty table for the entry, which holds @e; or another thread was faster. */
static int make_table(ptent_t *entry, ptent_t e)
{
	ptent_t *table = __dune_table_alloc();

	if (!table)
		return -ENOMEM;
	if (!pt_swap(entry, e, pt_entry(table)))
		__dune_table_free(table);
	return 0;
}

/* ---- lookup ----------------------------------------------------------- */

/* One step down at @entry.  0: look again; 1: this is the answer; -errno. */
static int step(ptent_t *entry, ptent_t e, int level, uint64_t va, bool create)
{
	int ret;

	if (dune_pte_lazy(e, level)) {
		ret = __dune_fill(entry, level, va, true);
		return ret == -ENOSPC ? create ? make_table(entry, e) : -ENOMEM : ret;
	}
	if (!e)
		return create ? make_table(entry, e) : -ENOENT;
	return e & PTE_LINEAR ? __dune_split_at(entry, level, va) : 1;
}

static int lookup(ptent_t *root, uint64_t va, int create, ptent_t **pte)
{
	int target = create <= CREATE_NORMAL ? 0 : create - 1, level = 3, ret;
	ptent_t *table = root;

	for (;;) {
		ptent_t *entry = &table[PDX(level, va)];
		ptent_t e = pt_load(entry);

		*pte = entry;
		if (level == target) {
			if (dune_pte_lazy(e, level))
				__dune_fill(entry, level, va, true);
			return 0;
		}
		if (!pt_is_table(e, level)) {
			ret = step(entry, e, level, va, create != CREATE_NONE);
			if (ret)
				return ret < 0 ? ret : 0;
			continue;
		}
		table = pt_table(e);
		if (!table)
			return -EFAULT;
		level--;
	}
}

static __attribute__((noinline)) int lookup_locked(ptent_t *root, uint64_t va, int create,
						   ptent_t **pte)
{
	int ret;

	if (create < CREATE_NONE || create > CREATE_BIG_1GB || !__dune_range_ok(va, va))
		return -EINVAL;
	__dune_vm_lock();
	ret = lookup(root, va, create, pte);
	__dune_vm_unlock();
	return ret;
}

DUNE_EXPORT int dune_vm_lookup(ptent_t *root, void *va, int create, ptent_t **pte)
{
	ptent_t *entry;

	if (__builtin_expect((unsigned int)create > CREATE_NORMAL, 0))
		goto other;
	PT_SMALL(entry, root, (uint64_t)va, other);
	*pte = entry;
	return 0;
other:
	return lookup_locked(root, (uint64_t)va, create, pte);
}

/* ---- edits ------------------------------------------------------------ */

static bool is_empty(const ptent_t *table)
{
	for (unsigned int i = 0; i < PTRS; i++)
		if (table[i])
			return false;
	return true;
}

/* A table that no entry points to any more, and all below it. */
static void drop_table(struct vm_op *op, ptent_t *table, int level, uint64_t va)
{
	for (unsigned int i = 0; i < PTRS; i++)
		__dune_drop(op, pt_load(&table[i]), level, va + i * SIZE_OF(level));
	/* Not present, whoever still walks it. */
	__atomic_store_n(&table[0], (ptent_t)op->dead_tables, __ATOMIC_RELEASE);
	op->dead_tables = table;
}

/* The entry of @level for @va held @old and does so no more. */
void __dune_drop(struct vm_op *op, ptent_t old, int level, uint64_t va)
{
	struct page *pg;

	if (!old || dune_pte_lazy(old, level))
		return;
	op->seen |= old;
	if (pt_is_table(old, level)) {
		ptent_t *table = pt_table(old);

		if (table)
			drop_table(op, table, level - 1, entry_start(va, level));
		return;
	}
	pg = __dune_owned_page(old, entry_start(va, level));
	if (pg && pg->ref && !__atomic_sub_fetch(&pg->ref, 1, __ATOMIC_ACQ_REL)) {
		pg->link.sle_next = op->dead;
		op->dead = pg;
	}
}

/* Flush, and only then give back. */
void __dune_op_done(struct vm_op *op, uint64_t first, uint64_t last)
{
	if (op->seen & PTE_P)
		__dune_flush(op->root, first, last, op->seen);
	while (op->dead_tables) {
		ptent_t *table = op->dead_tables;

		op->dead_tables = (ptent_t *)table[0];
		if (__dune_is_fixed_table(table))
			__dune_clear(table, PGSIZE);
		else
			__dune_table_free(table);
	}
	while (op->dead) {
		struct page *pg = op->dead;

		op->dead = pg->link.sle_next;
		__dune_page_give(pg);
	}
	if (__dune_clones)
		__dune_spares_fill();
}

static int walk_edit(struct vm_op *op, ptent_t *table, int level, uint64_t va, uint64_t last);

/* The table in @entry, of which [va, end] is to be edited. */
static int edit_below(struct vm_op *op, ptent_t *entry, ptent_t e, int level, uint64_t va,
		      uint64_t end)
{
	ptent_t *table = pt_table(e);
	int ret;

	if (!table)
		return -EFAULT;
	ret = walk_edit(op, table, level - 1, va, end);
	if (!ret && op->prune && !__dune_is_fixed_table(table) && is_empty(table) &&
	    pt_swap(entry, e, 0))
		__dune_drop(op, e, level, va);
	return ret;
}

/* [va, end] lies in one entry above the level that is wanted.  1: look again. */
static int edit_large(struct vm_op *op, ptent_t *entry, int level, uint64_t va, uint64_t end)
{
	ptent_t e = pt_load(entry);
	bool whole = va == entry_start(va, level) && end == (va | (SIZE_OF(level) - 1));
	int ret;

	if (whole && op->prune)
		return op->run(op, entry, 1, level, va);
	if (pt_is_table(e, level))
		return edit_below(op, entry, e, level, va, end);
	if (dune_pte_lazy(e, level)) {
		ret = __dune_fill(entry, level, va, true);
		if (ret == -ENOSPC)
			ret = op->create ? make_table(entry, e) : -ENOMEM;
		return ret ? ret : 1;
	}
	if (!e) {
		if (!op->create)
			return 0;
		ret = make_table(entry, e);
		return ret ? ret : 1;
	}
	if (whole && !op->create)
		return op->run(op, entry, 1, level, va);
	if (!(e & PTE_PS))	/* not present, and nothing of ours */
		return op->create ? -EINVAL : 0;
	ret = __dune_split_at(entry, level, va);
	return ret ? ret : 1;
}

static int walk_edit(struct vm_op *op, ptent_t *table, int level, uint64_t va, uint64_t last)
{
	int ret;

	if (level == op->level) {
		unsigned int n = (unsigned int)(PDX(level, last) - PDX(level, va)) + 1;

		return op->run(op, &table[PDX(level, va)], n, level, va);
	}
	for (;;) {
		uint64_t next = va | (SIZE_OF(level) - 1);
		uint64_t end = next < last ? next : last;

		do {
			ret = edit_large(op, &table[PDX(level, va)], level, va, end);
		} while (ret == 1);
		if (ret || end == last)
			return ret;
		va = end + 1;
	}
}

int __dune_op_walk(struct vm_op *op, uint64_t first, uint64_t last)
{
	return walk_edit(op, op->root, 3, first, last);
}

/* ---- walks for programs ----------------------------------------------- */

struct visit {
	page_walk_cb cb;
	const void *arg;
	int target;
	bool create;
};

static int step_locked(ptent_t *entry, ptent_t e, int level, uint64_t va, bool create)
{
	int ret;

	__dune_vm_lock();
	ret = pt_load(entry) == e ? step(entry, e, level, va, create) : 0;
	__dune_vm_unlock();
	return ret;
}

static int visit_table(const struct visit *v, ptent_t *table, int level, uint64_t va,
		       uint64_t last);

static int visit_entry(const struct visit *v, ptent_t *entry, int level, uint64_t va,
		       uint64_t end)
{
	ptent_t e = pt_load(entry);
	int ret;

	if (!v->create && (!e || dune_pte_lazy(e, level)))
		return 0;
	if (level == v->target)
		return v->cb(v->arg, entry, (void *)entry_start(va, level));
	while (!pt_is_table(e, level)) {
		ret = step_locked(entry, e, level, va, v->create);
		if (ret)
			return ret < 0 ? ret :
			       v->cb(v->arg, entry, (void *)entry_start(va, level));
		e = pt_load(entry);
	}
	return pt_table(e) ? visit_table(v, pt_table(e), level - 1, va, end) : -EFAULT;
}

static int visit_table(const struct visit *v, ptent_t *table, int level, uint64_t va,
		       uint64_t last)
{
	for (;;) {
		uint64_t next = va | (SIZE_OF(level) - 1);
		uint64_t end = next < last ? next : last;
		int ret = visit_entry(v, &table[PDX(level, va)], level, va, end);

		if (ret || end == last)
			return ret;
		va = end + 1;
	}
}

#define LOW_END		0x00007fffffffffffULL
#define HIGH_START	0xffff800000000000ULL

DUNE_EXPORT int __dune_vm_page_walk(ptent_t *dir, void *start, void *end, page_walk_cb cb,
				    const void *arg, int level, int create)
{
	uint64_t first = (uint64_t)start & ~PGMASK, last = (uint64_t)end;
	struct visit v = {
		.cb = cb,
		.arg = arg,
		.target = create <= CREATE_NORMAL ? 0 : create - 1,
		.create = create != CREATE_NONE,
	};
	int ret = 0;

	if (first > last || create < CREATE_NONE || create > CREATE_BIG_1GB ||
	    level < v.target || level > 3)
		return -EINVAL;
	/* Addresses between the halves do not exist. */
	if (first <= LOW_END)
		ret = visit_table(&v, dir, level, first, last < LOW_END ? last : LOW_END);
	if (!ret && last >= HIGH_START)
		ret = visit_table(&v, dir, level, first > HIGH_START ? first : HIGH_START, last);
	return ret;
}

DUNE_EXPORT int dune_vm_page_walk(ptent_t *root, void *start, void *end, page_walk_cb cb,
				  const void *arg)
{
	return __dune_vm_page_walk(root, start, end, cb, arg, 3, CREATE_NONE);
}
