// SPDX-License-Identifier: MIT
/*
 * Editing page tables: map, protect, unmap.  See mmu.h for what they promise.
 *
 * Lean code.
 */
#include <errno.h>
#include <signal.h>

#include "vm.h"

#define PERM_ALL	(PERM_R | PERM_W | PERM_X | PERM_U | PERM_UC | PERM_COW | PERM_BIG | \
			 PERM_BIG_1GB | PERM_USR1 | PERM_USR2 | PERM_USR3)

/* By the four low bits of PERM_*; 0: W without R. */
static ptent_t rights[16] = {
#define BITS(perm)								\
	[perm] = ((perm) & (PERM_R | PERM_W)) == PERM_W ? 0 :			\
		 ((perm) & (PERM_R | PERM_X) ? PTE_P : PTE_HELD) |		\
		 ((perm) & PERM_W ? PTE_W : 0) | ((perm) & PERM_X ? 0 : PTE_NX) | \
		 ((perm) & PERM_U ? PTE_U : 0)
	BITS(0), BITS(1), BITS(2), BITS(3), BITS(4), BITS(5), BITS(6), BITS(7),
	BITS(8), BITS(9), BITS(10), BITS(11), BITS(12), BITS(13), BITS(14), BITS(15),
};

/* A CPU that cannot forbid execution takes the bit for a reserved one. */
void __dune_vm_edit_init(void)
{
	for (unsigned int i = 0; i < 16 && !(__dune_info.features & DUNE_FEAT_NX); i++)
		rights[i] &= ~PTE_NX;
}

static ptent_t rare_bits(int perm)
{
	return (perm & PERM_UC ? PTE_PCD : 0) | (perm & PERM_COW ? PTE_COW : 0) |
	       (perm & PERM_USR1 ? PTE_USR1 : 0) | (perm & PERM_USR2 ? PTE_USR2 : 0) |
	       (perm & PERM_USR3 ? PTE_USR3 : 0);
}

static ptent_t perm_bits(int perm)
{
	ptent_t bits = rights[perm & 15];

	if (__builtin_expect(perm & ~15, 0))
		bits |= rare_bits(perm);
	return bits;
}

static bool perm_ok(int perm)
{
	return !(perm & ~PERM_ALL) && (perm & (PERM_R | PERM_W)) != PERM_W;
}

/* The level of the entries that @perm asks for; -EINVAL. */
static int perm_level(int perm)
{
	switch (perm & (PERM_BIG | PERM_BIG_1GB)) {
	case 0:
		return 0;
	case PERM_BIG:
		return 1;
	case PERM_BIG_1GB:
		return __dune_info.features & DUNE_FEAT_1GB_PAGES ? 2 : -EINVAL;
	default:
		return -EINVAL;
	}
}

/* ---- map ---------------------------------------------------------------- */

static void map_one(struct vm_op *op, ptent_t *entry, ptent_t e, int level, uint64_t va)
{
	__dune_drop(op, __atomic_exchange_n(entry, e, __ATOMIC_ACQ_REL), level, va);
}

static int run_map_phys(struct vm_op *op, ptent_t *entry, unsigned int n, int level, uint64_t va)
{
	for (; n; n--, entry++, va += SIZE_OF(level), op->pa += SIZE_OF(level)) {
		ptent_t e = op->pa | op->set;
		struct page *pg = __dune_owned_page(e, va);

		if (pg && !pg->ref)
			return -EINVAL;
		if (pg)
			__atomic_add_fetch(&pg->ref, 1, __ATOMIC_ACQ_REL);
		map_one(op, entry, e, level, va);
	}
	return 0;
}

static int run_map_pages(struct vm_op *op, ptent_t *entry, unsigned int n, int level, uint64_t va)
{
	for (; n; n--, entry++, va += SIZE_OF(level)) {
		struct page *pg = __dune_page_take((unsigned int)level * NPTBITS);

		if (!pg)
			return -ENOMEM;
		__dune_clear(dune_page2va(pg), SIZE_OF(level));
		map_one(op, entry, dune_page2pa(pg) | op->set, level, va);
	}
	return 0;
}

/* @perm is checked.  @last: of whole entries. */
static int map(ptent_t *root, uint64_t first, uint64_t last, uint64_t pa, int perm, int level,
	       int (*run)(struct vm_op *, ptent_t *, unsigned int, int, uint64_t))
{
	struct vm_op op = {
		.root = root,
		.level = level,
		.create = true,
		.run = run,
		.set = perm_bits(perm) | (level ? PTE_PS : 0),
		.pa = pa,
	};
	int ret;

	__dune_vm_lock();
	ret = __dune_op_walk(&op, first, last);
	__dune_op_done(&op, first, last);
	__dune_vm_unlock();
	return ret;
}

DUNE_EXPORT int dune_vm_map_phys(ptent_t *root, void *va, size_t len, void *pa, int perm)
{
	uint64_t first = (uint64_t)va, last = first + len - 1, from = (uint64_t)pa, mask;
	int level = perm_level(perm);

	if (level < 0 || !perm_ok(perm))
		return -EINVAL;
	mask = SIZE_OF(level) - 1;
	if ((first ^ from) & mask)
		return -EINVAL;
	if (!len)
		return 0;
	if (last < first)
		return -EINVAL;
	first &= ~mask;
	last |= mask;
	from &= ~mask;
	if (!__dune_range_ok(first, last) || from + (last - first) < from ||
	    (from + (last - first)) >> __dune_info.gpa_bits)
		return -EINVAL;
	return map(root, first, last, from, perm, level, run_map_phys);
}

DUNE_EXPORT int dune_vm_map_pages(ptent_t *root, void *va, size_t len, int perm)
{
	uint64_t first = (uint64_t)va, last = first + len - 1;
	int level = perm_level(perm);

	if (level < 0 || !perm_ok(perm))
		return -EINVAL;
	if (!len)
		return 0;
	if (last < first)
		return -EINVAL;
	first &= ~(SIZE_OF(level) - 1);
	last |= SIZE_OF(level) - 1;
	if (!__dune_range_ok(first, last))
		return -EINVAL;
	return map(root, first, last, 0, perm, level, run_map_pages);
}

DUNE_EXPORT int dune_vm_insert_page(ptent_t *root, void *va, struct page *pg, int perm)
{
	int level;

	if (perm & (PERM_BIG | PERM_BIG_1GB))
		return -EINVAL;
	level = __dune_page_level(pg);
	return dune_vm_map_phys(root, va, SIZE_OF(level), (void *)dune_page2pa(pg),
				perm | (level == 1 ? PERM_BIG : level == 2 ? PERM_BIG_1GB : 0));
}

/* ---- protect ------------------------------------------------------------ */

/* What stays of an entry; bit 7 is the size, or PAT. */
#define PROTECT_KEEP	(0x000ffffffffff000UL | PTE_A | PTE_D | PTE_PS | PTE_G | PTE_LINEAR)

/* What the entry held. */
static inline ptent_t protect_one(ptent_t *entry, ptent_t set)
{
	ptent_t e = __atomic_load_n(entry, __ATOMIC_RELAXED);

	while (e && !__atomic_compare_exchange_n(entry, &e, (e & PROTECT_KEEP) | set, false,
						 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		;
	return e;
}

static int run_protect(struct vm_op *op, ptent_t *entry, unsigned int n, int level, uint64_t va)
{
	const ptent_t set = op->set, *end = entry + n;
	ptent_t seen = 0;

	(void)level;
	(void)va;
	for (; (end - entry) % 4; entry++)
		seen |= protect_one(entry, set);
	for (; entry != end; entry += 4) {
		seen |= protect_one(entry, set);
		seen |= protect_one(entry + 1, set);
		seen |= protect_one(entry + 2, set);
		seen |= protect_one(entry + 3, set);
	}
	op->seen |= seen;
	return 0;
}

static __attribute__((noinline)) int protect_range(ptent_t *root, uint64_t first, size_t len,
						   int perm)
{
	struct vm_op op = { .root = root, .run = run_protect, .set = perm_bits(perm) };
	uint64_t last = first + len - 1;
	ptent_t *entry;
	int ret;

	if (!perm_ok(perm))
		return -EINVAL;
	if (!len)
		return 0;
	if (!__dune_range_ok(first, last))
		return -EINVAL;
	__dune_vm_lock();
	if ((first ^ last) >> PDSHIFT(1))
		goto walk;
	PT_SMALL(entry, root, first, walk);
	run_protect(&op, entry, (unsigned int)(PDX(0, last) - PDX(0, first)) + 1, 0, first);
	if (op.seen & PTE_P)
		__dune_flush(root, first, last, op.seen);
	__dune_vm_unlock();
	return 0;
walk:
	ret = __dune_op_walk(&op, first & ~PGMASK, last | PGMASK);
	__dune_op_done(&op, first, last);
	__dune_vm_unlock();
	return ret;
}

static __attribute__((noinline)) int flush_and_unlock(ptent_t *root, uint64_t va, ptent_t seen)
{
	__dune_flush(root, va, va, seen);
	__dune_vm_unlock();
	return 0;
}

static __attribute__((noinline)) int unlock_and_protect(ptent_t *root, uint64_t first,
							size_t len, int perm)
{
	__dune_vm_unlock();
	return protect_range(root, first, len, perm);
}

/* One aligned page with plain rights, and nobody else about, in few instructions. */
DUNE_EXPORT int dune_vm_mprotect(ptent_t *root, void *va, size_t len, int perm)
{
	ptent_t seen, set, *entry;

	if (__builtin_expect((unsigned int)perm > 15, 0))
		goto range;
	set = rights[(unsigned int)perm];
	if (__builtin_expect(!set || len != PGSIZE || PGOFF(va), 0))
		goto range;
	if (__builtin_expect(!__dune_vm_trylock(), 0))
		goto range;
	PT_SMALL(entry, root, (uint64_t)va, unlock);
	seen = protect_one(entry, set);
	if (seen & PTE_P) {
		if (__builtin_expect(!flush_is_local(root), 0))
			return flush_and_unlock(root, (uint64_t)va, seen);
		dune_flush_tlb_one((uint64_t)va);
	}
	if (__builtin_expect(__dune_vm_release(), 0))
		return __dune_vm_wake();
	return 0;
unlock:
	return unlock_and_protect(root, (uint64_t)va, len, perm);
range:
	return protect_range(root, (uint64_t)va, len, perm);
}

/* ---- unmap -------------------------------------------------------------- */

static int run_unmap(struct vm_op *op, ptent_t *entry, unsigned int n, int level, uint64_t va)
{
	for (; n; n--, entry++, va += SIZE_OF(level))
		map_one(op, entry, 0, level, va);
	return 0;
}

DUNE_EXPORT void dune_vm_unmap(ptent_t *root, void *va, size_t len)
{
	struct vm_op op = { .root = root, .prune = true, .run = run_unmap };
	uint64_t first = (uint64_t)va & ~PGMASK, last = (uint64_t)va + len - 1;
	int ret;

	if (!len || last < first || !__dune_range_ok(first, last | PGMASK))
		return;
	last |= PGMASK;
	__dune_vm_lock();
	ret = __dune_op_walk(&op, first, last);
	__dune_op_done(&op, first, last);
	__dune_vm_unlock();
	if (ret) {
		__dune_message("unmapping %p: no memory to split a larger page (errno %d)\n",
			       va, -ret);
		__dune_raise(SIGABRT, SI_USER, 0);
	}
}

/* ---- ask ---------------------------------------------------------------- */

DUNE_EXPORT struct page *dune_vm_lookup_page(ptent_t *root, void *va)
{
	struct page *pg = NULL;
	ptent_t *table = root;

	if (!__dune_range_ok((uint64_t)va, (uint64_t)va))
		return NULL;
	__dune_vm_lock();
	for (int level = 3; table; level--) {
		ptent_t e = pt_load(&table[PDX(level, va)]);

		if (!pt_is_table(e, level)) {
			if (!dune_pte_lazy(e, level) && e & PTE_P && dune_page_isfrompool(PTE_ADDR(e)))
				pg = __dune_page_head(dune_pa2page(PTE_ADDR(e)));
			break;
		}
		table = pt_table(e);
	}
	__dune_vm_unlock();
	return pg;
}
