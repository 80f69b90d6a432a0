// SPDX-License-Identifier: MIT
/*
 * The model: the tables outside of the arena that all cells share.
 *
 * Ring 0 must find there what it uses on a cell's root: its code, libdune's and libwedge's
 * variables, the thread's stack and blocks.  So each GiB that pgroot has is there, without
 * the U bit; those that come later are added when a thread first runs a cell.  An
 * entry that is present is never changed then, so no TLB needs a flush.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "internal.h"

#define RANGES_MAX	256
#define USER_SLOTS	256

ptent_t *model_root;

static unsigned int model_generation;
static unsigned int model_lock;
static struct object_range ranges[RANGES_MAX];
static unsigned int nr_ranges;		/* when all is set up, of those with copies */
static const char **copies;		/* of each page of the ranges with copies */
static size_t nr_copies;

static ptent_t load(const ptent_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static void store(ptent_t *entry, ptent_t e)
{
	__atomic_store_n(entry, e, __ATOMIC_RELEASE);
}

static bool present(ptent_t e, int level)
{
	return e & PTE_P && !dune_pte_lazy(e, level);
}

/* ---- ring 0's part ------------------------------------------------------------------ */

static int sync_slot(unsigned int slot)
{
	const ptent_t *from = table_of(load(&pgroot[slot]));
	ptent_t *to;

	if (!model_root[slot]) {
		to = page_get();
		if (!to)
			return -ENOMEM;
		store(&model_root[slot], entry_of(to) | ENTRY_TABLE);
	}
	to = table_of(model_root[slot]);
	for (unsigned int i = 0; i < NPTENTRIES; i++) {
		ptent_t e = load(&from[i]);

		if (present(e, 2) && !to[i]) {
			store(&to[i], e & ~(PTE_U | OF_MODEL | OWN));
			model_generation++;
		}
	}
	return 0;
}

static void sync(void)
{
	int ret = 0;

	lock(&model_lock);
	for (unsigned int i = 0; i < USER_SLOTS && !ret; i++)
		if (i != PDX(3, arena) && present(load(&pgroot[i]), 3))
			ret = sync_slot(i);
	unlock(&model_lock);
	if (ret) {
		dune_printf("libwedge: no memory for page tables\n");
		dune_die();
	}
}

/* A thread that was here before has added nothing, unless it is on another stack. */
unsigned int model_synced(void)
{
	static __thread uintptr_t gib;
	uintptr_t here = (uintptr_t)__builtin_frame_address(0) / GIANT_PGSIZE;

	if (gib != here)
		sync();
	gib = here;
	return __atomic_load_n(&model_generation, __ATOMIC_ACQUIRE);
}

void table_of_ring0(ptent_t *table, ptent_t e, size_t step)
{
	for (unsigned int i = 0; i < NPTENTRIES; i++)
		if (e & PTE_PS)
			table[i] = (PTE_ADDR(e) + i * step) | ENTRY_RING0 |
				   (step == PGSIZE ? 0 : PTE_PS);
		else
			table[i] = load(&table_of(e)[i]) & ~(PTE_U | OF_MODEL | OWN);
}

/* ---- ring 3's part -------------------------------------------------------------------- */

/* A table of @entry's own below it, that maps what it maps, for ring 0. */
static ptent_t *refine(ptent_t *entry, size_t step)
{
	ptent_t *table, e = *entry;

	if (e & OF_MODEL)
		return table_of(e);
	table = page_get();
	if (!table)
		return NULL;
	table_of_ring0(table, e, step);
	*entry = entry_of(table) | ENTRY_TABLE | OF_MODEL;
	return table;
}

static ptent_t *model_entry(uintptr_t va)
{
	ptent_t *table;

	if (!present(model_root[PDX(3, va)], 3))
		return NULL;
	table = refine(&table_of(model_root[PDX(3, va)])[PDX(2, va)], BIG_PGSIZE);
	table = table ? refine(&table[PDX(1, va)], PGSIZE) : NULL;
	return table ? &table[PDX(0, va)] : NULL;
}

static int open_page(const struct object_range *r, uintptr_t va)
{
	ptent_t *entry = model_entry(va);
	ptent_t pa = entry_of((void *)va);
	char *copy;

	if (!entry || pa == (ptent_t)-1)
		return -ENOMEM;
	if (r->copy) {
		copy = page_get();
		if (!copy)
			return -ENOMEM;
		copy_words(copy, (void *)va, PGSIZE);
		copies[nr_copies++] = copy;
		pa = entry_of(copy);
	}
	*entry = pa | PTE_P | PTE_U | (r->exec ? 0 : PTE_NX);
	return 0;
}

/* Each fault of an sthread asks for one with copies, and nobody for another. */
static void keep_copied(void)
{
	unsigned int kept = 0;

	for (unsigned int i = 0; i < nr_ranges; i++)
		if (ranges[i].copy)
			ranges[kept++] = ranges[i];
	nr_ranges = kept;
}

int model_init(void)
{
	size_t wanted = 0;
	int ret;

	free(malloc(1));	/* so that there is a heap */
	ret = objects_find(ranges, RANGES_MAX, &nr_ranges);
	model_root = page_get();
	if (ret || !model_root)
		return ret ? ret : -ENOMEM;
	for (unsigned int i = 0; i < nr_ranges; i++)
		if (ranges[i].copy)
			wanted += (ranges[i].end - ranges[i].begin) / PGSIZE;
	/* Not from malloc(): the heap is one of them, and libc's notes of it are others. */
	copies = mmap(NULL, (wanted + 1) * sizeof(*copies), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (copies == MAP_FAILED)
		return -ENOMEM;
	for (unsigned int i = 0; i < nr_ranges; i++)	/* so that pgroot has its GiB */
		if (!ranges[i].holes)	/* [vvar] lies beside the vDSO */
			(void)*(volatile char *)ranges[i].begin;
	sync();
	for (unsigned int i = 0; i < nr_ranges && !ret; i++)
		for (uintptr_t va = ranges[i].begin; va < ranges[i].end && !ret; va += PGSIZE)
			ret = open_page(&ranges[i], va);
	keep_copied();
	return ret;
}

const void *model_copy_of(uintptr_t va)
{
	size_t at = 0;

	for (unsigned int i = 0; i < nr_ranges; i++) {
		if (va - ranges[i].begin < ranges[i].end - ranges[i].begin)
			return copies[at + (va - ranges[i].begin) / PGSIZE];
		at += (ranges[i].end - ranges[i].begin) / PGSIZE;
	}
	return NULL;
}
