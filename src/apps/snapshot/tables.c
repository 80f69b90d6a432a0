// SPDX-License-Identifier: MIT
/* The page tables of a heap and of its snapshots: see internal.h. */
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

static ptent_t load(const ptent_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

/* The CPU may set A and D of the same entry meanwhile; losing one of them does no harm. */
static void store(ptent_t *entry, ptent_t e)
{
	__atomic_store_n(entry, e, __ATOMIC_RELEASE);
}

/* The table that an entry names; all of them are pool pages, at their own address. */
static ptent_t *table_of(ptent_t e)
{
	return dune_pa_to_va(PTE_ADDR(e));
}

static void forbid(ptent_t *table)
{
	for (unsigned int i = 0; i < NPTENTRIES; i++)
		store(&table[i], load(&table[i]) & ~PTE_W);
}

static void allow(ptent_t *table)
{
	for (unsigned int i = 0; i < NPTENTRIES; i++)
		store(&table[i], load(&table[i]) | PTE_W);
}

/* Not memcpy(): this file does without vector registers, see build.mk. */
static void copy_page(void *to, const void *from)
{
	unsigned long n = PGSIZE / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

/* A table of entries for @pa and what follows. */
static ptent_t *linear(struct pool *pool, ptent_t pa, size_t step, ptent_t rights)
{
	ptent_t *table = pool_get(pool);

	for (unsigned int i = 0; table && i < NPTENTRIES; i++)
		table[i] = (pa + i * step) | rights;
	return table;
}

/* ---- a heap -------------------------------------------------------------- */

static int tables_of_gib(struct dune_heap *h, size_t g)
{
	void *at = (void *)(h->base + g * GIANT_PGSIZE);
	ptent_t pa = entry_of(at);
	int ret;

	if (pa == (ptent_t)-1)
		return -ENOMEM;
	ret = dune_vm_lookup(pgroot, at, CREATE_BIG_1GB, &h->top[g]);
	if (ret)
		return ret;
	h->plain[g] = linear(&h->pool, pa, BIG_PGSIZE, RIGHTS | PTE_PS);
	h->live[g] = linear(&h->pool, pa, BIG_PGSIZE, RIGHTS | PTE_PS | PTE_W);
	return h->plain[g] && h->live[g] ? 0 : -ENOMEM;
}

int tables_new(struct dune_heap *h)
{
	int ret = 0;

	h->top = calloc(h->gib, sizeof(*h->top));
	h->before = calloc(h->gib, sizeof(*h->before));
	h->live = calloc(h->gib, sizeof(*h->live));
	h->plain = calloc(h->gib, sizeof(*h->plain));
	if (!h->top || !h->before || !h->live || !h->plain)
		ret = -ENOMEM;
	for (size_t g = 0; !ret && g < h->gib; g++)
		ret = tables_of_gib(h, g);
	if (!ret)
		h->model = dune_vm_clone(pgroot);
	if (ret || !h->model) {
		tables_free(h);
		return ret ? ret : -ENOMEM;
	}
	for (size_t g = 0; g < h->gib; g++) {
		h->before[g] = load(h->top[g]);
		store(h->top[g], entry_of(h->live[g]) | RIGHTS | PTE_W);
	}
	h->mapped = true;
	ret = dune_tlb_shootdown((void *)h->base, h->gib * GIANT_PGSIZE);
	if (ret)
		tables_free(h);
	return ret;
}

static void snapshot_free(struct dune_heap *h, struct dune_snapshot *s)
{
	for (size_t g = 0; s->top && g < h->gib; g++)
		if (s->top[g])	/* libdune would take the table for one of its own */
			store(s->top[g], h->before[g]);
	if (s->root)
		dune_vm_free(s->root);
	free(s->top);
	free(s->own);
}

void tables_free(struct dune_heap *h)
{
	for (size_t g = 0; h->mapped && g < h->gib; g++)
		store(h->top[g], h->before[g]);
	if (h->mapped)
		dune_tlb_shootdown((void *)h->base, h->gib * GIANT_PGSIZE);
	h->mapped = false;
	if (h->model)
		dune_vm_free(h->model);
	for (unsigned int i = 0; i < DUNE_SNAPSHOTS_MAX; i++)
		snapshot_free(h, &h->snapshots[i]);
	free(h->top);
	free(h->before);
	free(h->live);
	free(h->plain);
	pool_free(&h->pool);
}

/* ---- a snapshot ------------------------------------------------------------ */

/* A root of its own, once: it is used again after the snapshot is forgotten. */
static int root_new(struct dune_heap *h, struct dune_snapshot *s)
{
	int ret = 0;

	s->top = calloc(h->gib, sizeof(*s->top));
	s->own = calloc(h->gib, sizeof(*s->own));
	s->root = dune_vm_clone(h->model);
	if (!s->top || !s->own || !s->root)
		ret = -ENOMEM;
	for (size_t g = 0; !ret && g < h->gib; g++)
		ret = dune_vm_lookup(s->root, (void *)(h->base + g * GIANT_PGSIZE), CREATE_BIG_1GB,
				     &s->top[g]);
	for (size_t g = 0; !ret && g < h->gib; g++)
		store(s->top[g], entry_of(h->plain[g]) | RIGHTS);
	if (ret) {
		snapshot_free(h, s);
		s->root = NULL;
		s->top = s->own = NULL;
	}
	return ret;
}

int tables_snapshot(struct dune_heap *h, struct dune_snapshot *s)
{
	int ret = s->root ? 0 : root_new(h, s);

	if (ret)
		return ret;
	for (size_t g = 0; g < h->gib; g++)
		__atomic_and_fetch(h->top[g], ~PTE_W, __ATOMIC_SEQ_CST);
	/*
	 * Under the lock: a page that another thread could still write to must not be copied
	 * for a snapshot meanwhile.
	 */
	return dune_tlb_shootdown((void *)h->base, h->gib * GIANT_PGSIZE);
}

void tables_forget(struct dune_heap *h, struct dune_snapshot *s)
{
	for (size_t g = 0; g < h->gib; g++) {
		ptent_t *own = s->own[g];

		if (!own)
			continue;
		store(s->top[g], entry_of(h->plain[g]) | RIGHTS);
		s->own[g] = NULL;
		for (unsigned int i = 0; i < NPTENTRIES; i++) {
			ptent_t *table = own[i] & PTE_PS ? NULL : table_of(own[i]);
			ptent_t pa = PTE_ADDR(h->plain[g][i]);

			for (unsigned int k = 0; table && k < NPTENTRIES; k++)
				if (PTE_ADDR(table[k]) != pa + k * PGSIZE)
					pool_put(&h->pool, table_of(table[k]));
			if (table)
				pool_put(&h->pool, table);
		}
		pool_put(&h->pool, own);
	}
}

/* ---- a write ---------------------------------------------------------------- */

/* The snapshot's entry for a page, with tables of its own above it; NULL: no memory. */
static ptent_t *own_entry(struct dune_heap *h, struct dune_snapshot *s, uintptr_t va)
{
	size_t g = (va - h->base) / GIANT_PGSIZE;
	ptent_t *entry, *table;

	if (!s->own[g]) {
		table = pool_get(&h->pool);
		if (!table)
			return NULL;
		copy_page(table, h->plain[g]);
		s->own[g] = table;
		store(s->top[g], entry_of(table) | RIGHTS);
	}
	entry = &s->own[g][PDX(1, va)];
	if (load(entry) & PTE_PS) {
		table = linear(&h->pool, PTE_ADDR(h->plain[g][PDX(1, va)]), PGSIZE, RIGHTS);
		if (!table)
			return NULL;
		store(entry, entry_of(table) | RIGHTS);
	}
	return &table_of(load(entry))[PDX(0, va)];
}

/* Copies of the page at @va for the snapshots that have none.  1: one of them is viewed. */
static int save(struct dune_heap *h, uintptr_t va)
{
	ptent_t pa = entry_of((void *)va);
	void *copy = NULL;
	int viewed = 0;

	for (unsigned int i = 0; i < DUNE_SNAPSHOTS_MAX; i++) {
		struct dune_snapshot *s = &h->snapshots[i];
		ptent_t *entry;

		if (!s->taken)
			continue;
		entry = own_entry(h, s, va);
		if (!entry)
			return -ENOMEM;
		if (PTE_ADDR(load(entry)) != pa)
			continue;
		if (copy) {
			pool_share(copy);
		} else {
			copy = pool_get(&h->pool);
			if (!copy)
				return -ENOMEM;
			copy_page(copy, (void *)va);
			h->stats.copies++;
		}
		store(entry, entry_of(copy) | RIGHTS);
		/* Who comes to view it after this looks at the tables after this, too. */
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		viewed |= __atomic_load_n(&s->viewers, __ATOMIC_SEQ_CST) != 0;
	}
	return viewed;
}

static void open_gib(struct dune_heap *h, size_t g)
{
	if (load(h->top[g]) & PTE_W)
		return;
	forbid(h->live[g]);
	__atomic_or_fetch(h->top[g], PTE_W, __ATOMIC_SEQ_CST);
}

/* The 4 KB entries around @entry's 2 MB, with W above them; NULL: no memory. */
static ptent_t *open_table(struct dune_heap *h, ptent_t *entry)
{
	ptent_t *table;

	if (load(entry) & PTE_PS) {
		table = linear(&h->pool, PTE_ADDR(load(entry)), PGSIZE, RIGHTS);
		if (table)
			store(entry, entry_of(table) | RIGHTS | PTE_W);
		return table;
	}
	table = table_of(load(entry));
	if (!(load(entry) & PTE_W)) {
		forbid(table);
		store(entry, load(entry) | PTE_W);
	}
	return table;
}

/* No snapshot needs anything: 2 MB at once. */
static int open_all(ptent_t *entry)
{
	if (!(load(entry) & PTE_PS))
		allow(table_of(load(entry)));
	store(entry, load(entry) | PTE_W);
	return 0;
}

static bool is_open(struct dune_heap *h, uintptr_t va)
{
	size_t g = (va - h->base) / GIANT_PGSIZE;
	ptent_t e = load(h->top[g]) & load(&h->live[g][PDX(1, va)]);

	if (!(e & PTE_W))
		return false;
	e = load(&h->live[g][PDX(1, va)]);
	return e & PTE_PS || load(&table_of(e)[PDX(0, va)]) & PTE_W;
}

int tables_open(struct dune_heap *h, uintptr_t addr)
{
	uintptr_t first = addr & ~(h->unit * PGSIZE - 1), va;
	size_t g = (addr - h->base) / GIANT_PGSIZE;
	ptent_t *entry = &h->live[g][PDX(1, addr)], *table;
	int ret = 0;

	if (is_open(h, addr))
		return 1;
	open_gib(h, g);
	if (!h->taken)
		return open_all(entry);
	table = open_table(h, entry);
	if (!table)
		return -ENOMEM;
	for (va = first; ret >= 0 && va < first + h->unit * PGSIZE; va += PGSIZE)
		if (!(load(&table[PDX(0, va)]) & PTE_W)) {
			int viewed = save(h, va);

			ret = viewed < 0 ? viewed : ret | viewed;
		}
	if (ret < 0)
		return ret;
	if (ret) {	/* a view may still have the heap's page in its TLB */
		h->stats.shootdowns++;
		ret = dune_tlb_shootdown((void *)first, h->unit * PGSIZE);
		if (ret)
			return ret;
	}
	for (va = first; va < first + h->unit * PGSIZE; va += PGSIZE)
		store(&table[PDX(0, va)], load(&table[PDX(0, va)]) | PTE_W);
	return 0;
}
