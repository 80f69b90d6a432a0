// SPDX-License-Identifier: MIT
/* Cells: a root, a stack, TLS, a heap, and what the context adds. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

static unsigned int cells_lock, nr_cells;
static struct cell *cells_free;

static int map_tag(struct cell *c, const struct wedge_tag *t, unsigned int rights);
static int map_pages(struct cell *c, uintptr_t begin, uintptr_t end, unsigned int rights);

#define USER_PAGE	(PTE_P | PTE_W | PTE_U | PTE_NX)

/* ---- its own tables --------------------------------------------------------------------- */

/* A page that is written to all over, by its owner's and nobody else's entries. */
static void *own_page(struct cell *c)
{
	void *page = c->owned < OWNED_MAX ? page_get_as_is() : NULL;

	if (page)
		c->own[c->owned++] = page;
	return page;
}

static void *own_copy(struct cell *c, const void *from)
{
	void *to = own_page(c);

	if (to)
		copy_words(to, from, PGSIZE);
	return to;
}

/* The cell's own table of level 2 for a slot outside of the arena; NULL: no memory. */
static ptent_t *own_slot(struct cell *c, unsigned int index)
{
	ptent_t *l2;

	for (unsigned int i = 0; i < c->slots; i++)
		if (c->slot[i].index == index)
			return c->slot[i].l2;
	if (c->slots == OWN_SLOTS || !(c->root[index] & PTE_P))
		return NULL;
	l2 = own_copy(c, table_of(c->root[index]));
	if (!l2)
		return NULL;
	c->slot[c->slots].index = index;
	c->slot[c->slots++].l2 = l2;
	c->root[index] = entry_of(l2) | ENTRY_TABLE;
	return l2;
}

/*
 * A table that is the cell's own (OWN) for one that the model has, or for what is ring 0's
 * alone: that is so by the U bit of @entry, and must be by those below it from now on.
 */
static ptent_t *own_below(struct cell *c, ptent_t *entry, size_t step)
{
	ptent_t e = *entry, *table;

	if (!(e & PTE_P))
		return NULL;
	if (e & OWN)
		return table_of(e);
	if (e & OF_MODEL) {
		table = own_copy(c, table_of(e));
	} else {
		table = own_page(c);
		if (table)
			table_of_ring0(table, e, step);
	}
	if (table)
		*entry = entry_of(table) | ENTRY_TABLE | OWN;
	return table;
}

static ptent_t *own_entry(struct cell *c, uintptr_t va)
{
	ptent_t *table = own_slot(c, PDX(3, va));

	table = table ? own_below(c, &table[PDX(2, va)], BIG_PGSIZE) : NULL;
	table = table ? own_below(c, &table[PDX(1, va)], PGSIZE) : NULL;
	return table ? &table[PDX(0, va)] : NULL;
}

/* A write to one of the libraries' variables. */
static bool copy_on_write(struct cell *c, uintptr_t va)
{
	const void *from = model_copy_of(va);
	ptent_t *entry = from ? own_entry(c, va) : NULL;
	void *page;

	if (!entry)
		return false;
	if (!(*entry & OWN)) {
		page = own_copy(c, from);
		if (!page)
			return false;
		c->copy[c->copies].entry = entry;
		c->copy[c->copies++].from = from;
		__atomic_store_n(entry, entry_of(page) | USER_PAGE | OWN, __ATOMIC_RELEASE);
	}
	return true;
}

static void disown(struct cell *c)
{
	for (unsigned int i = 0; i < c->slots; i++)
		c->root[c->slot[i].index] = model_root[c->slot[i].index];
	while (c->owned)
		page_put(c->own[--c->owned]);
	c->slots = 0;
	c->copies = 0;
	c->given = false;
}

/*
 * Who comes next writes to much the same variables: the copies stay, and with them the tables
 * down to there, and those that were written to become what they were copied from.
 */
static void renew(struct cell *c)
{
	for (unsigned int i = 0; i < c->copies; i++) {
		ptent_t *entry = c->copy[i].entry;

		if (!(*entry & PTE_D))
			continue;
		copy_words(table_of(*entry), c->copy[i].from, PGSIZE);
		*entry &= ~PTE_D;
	}
}

/* ---- what is mapped ------------------------------------------------------------------------ */

void cell_sync(struct cell *c)
{
	unsigned int generation = model_synced();

	if (c->model == generation)
		return;
	for (unsigned int i = 0; i < NPTENTRIES / 2; i++)
		if (!c->root[i])
			c->root[i] = model_root[i];
	for (unsigned int i = 0; i < c->slots; i++) {
		const ptent_t *from = table_of(model_root[c->slot[i].index]);

		for (unsigned int k = 0; k < NPTENTRIES; k++)
			if (!c->slot[i].l2[k])
				c->slot[i].l2[k] = from[k];
	}
	c->model = generation;
}

static void map_stack(struct cell *c, uintptr_t low)
{
	for (; c->stack_low > low; c->stack_low -= PGSIZE) {
		uintptr_t va = c->stack_low - PGSIZE;

		c->l0[PDX(0, va)] = entry_of((void *)va) | USER_PAGE;
	}
}

/* By the tables: may ring 3 do it?  The entry of level 0, or one of 2 MB; NULL: no. */
static ptent_t *allowed(struct cell *c, uintptr_t va, bool write)
{
	ptent_t need = PTE_P | PTE_U | (write ? PTE_W : 0), *table = c->root;

	if (va >> 47)
		return NULL;
	for (int level = 3; ; level--) {
		ptent_t *entry = &table[PDX(level, va)];

		if ((*entry & need) != need)
			return NULL;
		if (!level || *entry & PTE_PS)
			return entry;
		table = table_of(*entry);
	}
}

bool cell_resolve(struct cell *c, uintptr_t va, bool write)
{
	uintptr_t in = va - c->base;

	if (in >= STACK_LOW && in < STACK_TOP && va < c->stack_low) {
		map_stack(c, va & ~PGMASK);
		return true;
	}
	if (write && copy_on_write(c, va))
		return true;
	return c->learning && learn_page(c, va, write);
}

/* While it learns: what is at @va in the process, as far as the model has it. */
bool cell_give(struct cell *c, uintptr_t va, bool write)
{
	struct wedge_tag *tag = tag_at(va);

	if (tag)
		return !map_tag(c, tag, write ? WEDGE_RW : WEDGE_R);
	return !map_pages(c, va & ~PGMASK, (va & ~PGMASK) + PGSIZE, write ? WEDGE_RW : WEDGE_R);
}

bool cell_may(struct cell *c, uintptr_t va, size_t len, bool write)
{
	uintptr_t end = va + len;

	if (end < va)
		return false;
	for (uintptr_t at = va & ~PGMASK; at < end; at += PGSIZE)
		if (!allowed(c, at, write) && !cell_resolve(c, at, write))
			return false;
	return true;
}

/* 2 MB pages: whoever wants a heap wants more than a few KB. */
uintptr_t cell_heap_grow(struct cell *c, size_t len)
{
	uintptr_t at = c->heap_end, end = at + ((len + PGMASK) & ~PGMASK);

	if (end < at || end > c->base + CELL_SIZE)
		return 0;
	for (uintptr_t va = at & ~(BIG_PGSIZE - 1); va < end; va += BIG_PGSIZE)
		if (!c->l1[PDX(1, va)])
			c->l1[PDX(1, va)] = entry_of((void *)va) | USER_PAGE | PTE_PS;
	c->heap_end = end;
	return at;
}

/* ---- the context ------------------------------------------------------------------------------ */

static ptent_t *tags_of_gib(struct cell *c, uintptr_t va)
{
	unsigned int gib = (unsigned int)((va - arena) / GIANT_PGSIZE) - TAG_GIB;

	if (!c->tags[gib]) {
		c->tags[gib] = page_get();
		if (c->tags[gib])
			c->l2[PDX(2, va)] = entry_of(c->tags[gib]) | ENTRY_TABLE;
	}
	return c->tags[gib];
}

static int map_tag(struct cell *c, const struct wedge_tag *t, unsigned int rights)
{
	ptent_t *l1 = tags_of_gib(c, t->base);

	if (!l1)
		return -ENOMEM;
	for (size_t i = 0; i < t->size / BIG_PGSIZE; i++) {
		ptent_t e = entry_of(t->l0[i]) | ENTRY_TABLE | PTE_NX;

		l1[PDX(1, t->base + i * BIG_PGSIZE)] = rights & WEDGE_W ? e : e & ~PTE_W;
	}
	return 0;
}

static void unmap_tag(struct cell *c, const struct wedge_tag *t)
{
	ptent_t *l1 = tags_of_gib(c, t->base);

	for (size_t i = 0; l1 && i < t->size / BIG_PGSIZE; i++)
		l1[PDX(1, t->base + i * BIG_PGSIZE)] = 0;
}

static int map_pages(struct cell *c, uintptr_t begin, uintptr_t end, unsigned int rights)
{
	c->given = true;
	for (uintptr_t va = begin; va < end; va += PGSIZE) {
		ptent_t *entry = own_entry(c, va);

		if (!entry || entry_of((void *)va) == (ptent_t)-1)
			return -ENOMEM;
		*entry = entry_of((void *)va) | PTE_P | PTE_U | PTE_NX |
			 (rights & WEDGE_W ? PTE_W : 0);
	}
	return 0;
}

/* Tags that are not in the context: the rest goes with the cell's own tables. */
void cell_take(struct cell *c, uintptr_t va)
{
	struct wedge_tag *tag = tag_at(va);

	if (tag)
		unmap_tag(c, tag);
}

static int map_context_pages(struct cell *c)
{
	int ret = 0;

	for (unsigned int i = 0; i < c->sc.tags && !ret; i++)
		if (!c->sc.tag[i].tag)
			ret = map_pages(c, c->sc.tag[i].begin, c->sc.tag[i].end,
					c->sc.tag[i].rights);
	return ret;
}

static int map_context(struct cell *c)
{
	int ret = 0;

	for (unsigned int i = 0; i < c->sc.tags && !ret; i++)
		if (c->sc.tag[i].tag)
			ret = map_tag(c, c->sc.tag[i].tag, c->sc.tag[i].rights);
	return ret ? ret : map_context_pages(c);
}

/* ---- get, wipe, put ----------------------------------------------------------------------------- */

/* Since this was asked before.  The TLB forgets it with the next load of CR3. */
static bool was_written(struct cell *c, uintptr_t va)
{
	ptent_t *entry = &c->l0[PDX(0, va)];
	bool written = *entry & PTE_D;

	*entry &= ~PTE_D;
	return written;
}

/* It writes by pgroot, whose D bits are others. */
static void put_tls(struct cell *c)
{
	c->tp = tls_put(c->base + TLS_AT);
}

/* What the CPU wrote to since it was wiped, its heap with a system call. */
void cell_wipe(struct cell *c)
{
	uintptr_t heap = c->base + HEAP_AT;
	bool written = false;

	if (c->given || c->owned > OWNED_KEPT) {
		disown(c);
		map_context_pages(c);	/* without memory the pages are not there */
	} else {
		renew(c);
	}
	for (uintptr_t va = c->stack_low; va < c->base + STACK_TOP; va += PGSIZE)
		if (was_written(c, va))
			zero_words((void *)va, PGSIZE);
	if (c->heap_end > heap) {
		madvise((void *)heap, c->heap_end - heap, MADV_DONTNEED);
		for (uintptr_t va = heap; va < c->heap_end; va += BIG_PGSIZE)
			c->l1[PDX(1, va)] = 0;
		c->heap_end = heap;
	}
	for (uintptr_t va = c->base + TLS_AT; va < c->base + TLS_AT + tls_size; va += PGSIZE)
		written |= was_written(c, va);
	if (written)
		put_tls(c);
	else
		tls_guard(c->tp);
}

static int build(struct cell *c, unsigned int index)
{
	uintptr_t va;

	c->base = arena + CELL_GIB * GIANT_PGSIZE + index * CELL_SIZE;
	c->root = page_get();
	c->l2 = page_get();
	c->l1 = page_get();
	c->l0 = page_get();
	va = c->base + STACK_TOP;
	if (!c->root || !c->l2 || !c->l1 || !c->l0 || entry_of((void *)va) == (ptent_t)-1)
		return -ENOMEM;
	*(volatile char *)va = 0;	/* so that pgroot has its GiB */
	c->root[PDX(3, arena)] = entry_of(c->l2) | ENTRY_TABLE;
	c->l2[PDX(2, arena)] = table_of(pgroot[PDX(3, arena)])[PDX(2, arena)] & ~PTE_U;
	c->l2[PDX(2, c->base)] = entry_of(c->l1) | ENTRY_TABLE;
	c->l1[PDX(1, c->base)] = entry_of(c->l0) | ENTRY_TABLE;
	c->l1[PDX(1, c->base + BOUNCE_AT)] =
		entry_of((void *)(c->base + BOUNCE_AT)) | ENTRY_RING0 | PTE_NX | PTE_PS;
	c->stack_low = c->base + STACK_TOP;
	map_stack(c, c->stack_low - STACK_FIRST * PGSIZE);
	for (va = c->base + TLS_AT; va < c->base + TLS_AT + tls_size; va += PGSIZE)
		c->l0[PDX(0, va)] = entry_of((void *)va) | USER_PAGE;
	c->heap_end = c->base + HEAP_AT;
	c->cr3 = entry_of(c->root);
	put_tls(c);
	run_prepare(c);
	return 0;
}

/* The books are pages of ring 0's: all cells' roots have them. */
static struct cell *cell_new(void)
{
	struct cell *c;
	unsigned int index;

	lock(&cells_lock);
	index = nr_cells < CELLS_MAX ? nr_cells++ : CELLS_MAX;
	unlock(&cells_lock);
	if (index == CELLS_MAX)
		return NULL;
	c = (struct cell *)(arena + BOOKS_AT + index * BOOKS_SIZE);
	return build(c, index) ? NULL : c;
}

int cell_get(const struct sthread_sc *sc, struct cell **cell)
{
	struct cell *c;
	int ret;

	lock(&cells_lock);
	c = cells_free;
	if (c)
		cells_free = c->next;
	unlock(&cells_lock);
	if (!c)
		c = cell_new();
	if (!c)
		return -EAGAIN;
	cell_sync(c);
	c->sc = *sc;
	ret = map_context(c);
	if (ret)
		cell_put(c);
	else
		*cell = c;
	return ret;
}

void cell_put(struct cell *c)
{
	for (unsigned int i = 0; i < c->sc.tags; i++)
		if (c->sc.tag[i].tag)
			unmap_tag(c, c->sc.tag[i].tag);
	c->sc.tags = 0;		/* it has no context any more */
	cell_wipe(c);
	lock(&cells_lock);
	c->next = cells_free;
	cells_free = c;
	unlock(&cells_lock);
}
