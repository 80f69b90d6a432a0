/* SPDX-License-Identifier: MIT */
/*
 * How a heap is mapped.
 *
 * Each GiB of it has an entry of level 2 in the tables that the program runs on (pgroot),
 * and one in those of each snapshot.  All of them end at the heap's own memory, but where a
 * snapshot has a copy:
 *
 *	running		entry -> live[g]: 512 entries of 2 MiB, or of tables of 4 KiB entries
 *	snapshot	entry -> plain[g]: 512 read-only entries of 2 MiB, shared by all
 *		   or	entry -> its own table -> 2 MiB entries, or its own tables of
 *			4 KiB entries -> the heap's page, or a copy
 *
 * A write needs the W bit at each level (SDM 4.6, APM 5.6.1).  Taking a snapshot clears it
 * at level 2 alone; what is below keeps the bits of before, and who sets one at a level
 * clears those of the next first ("push down").  So a W bit counts only if all above it
 * are set, and a page that may be written to is one that no snapshot without a copy needs.
 *
 * One lock per heap.  Who holds it may be in the page-fault handler, so nothing in it may
 * touch the heap but to read.  Tables and copies are read by the CPU at any time.
 */
#ifndef SNAPSHOT_INTERNAL_H
#define SNAPSHOT_INTERNAL_H

#include <libdune/dune.h>

#include "dune_snapshot.h"

#define RIGHTS		(PTE_P | PTE_U | PTE_A | PTE_D)

struct dune_snapshot {
	struct dune_heap *heap;
	ptent_t *root;			/* a clone of pgroot; NULL: none made yet */
	ptent_t **top;			/* its entries of level 2, one for each GiB */
	ptent_t **own;			/* their tables; NULL: plain[g] */
	unsigned int viewers;		/* threads on root */
	bool taken;
};

/* Pages for tables and copies, in chunks. */
struct pool {
	struct chunk *chunks;
	struct free_page *free;
	uint64_t used;			/* pages */
};

struct dune_heap {
	unsigned int lock;
	unsigned int unit;		/* pages */
	unsigned int taken;		/* snapshots */
	size_t gib;
	uintptr_t base;
	ptent_t **top;			/* pgroot's entries of level 2 */
	ptent_t *before;		/* and what they were */
	ptent_t *model;			/* pgroot without the heap, for snapshots' roots */
	bool mapped;
	ptent_t **live, **plain;
	struct pool pool;
	struct dune_heap_stats stats;
	struct dune_snapshot snapshots[DUNE_SNAPSHOTS_MAX];
};

/* Memory at a multiple of @align; 0: none. */
uintptr_t map_aligned(size_t size, size_t align);

/* pool.c.  The lock is held. */
void *pool_get(struct pool *pool);		/* not zeroed, one reference; NULL: -ENOMEM */
void pool_share(void *page);			/* one reference more */
void pool_put(struct pool *pool, void *page);
void pool_free(struct pool *pool);		/* all of it */

/* tables.c.  The lock is held. */
int tables_new(struct dune_heap *h);
void tables_free(struct dune_heap *h);
int tables_snapshot(struct dune_heap *h, struct dune_snapshot *s);
void tables_forget(struct dune_heap *h, struct dune_snapshot *s);

/* Make the unit around @addr writable; 1: it was; -ENOMEM. */
int tables_open(struct dune_heap *h, uintptr_t addr);

static inline ptent_t entry_of(const void *page)
{
	return (ptent_t)dune_va_to_pa((void *)page);
}

#endif /* SNAPSHOT_INTERNAL_H */
