// SPDX-License-Identifier: MIT
/*
 * The page pool: one reservation, contiguous in virtual and in guest-physical
 * addresses.
 *
 *	the fixed tables of pgtable.c
 *	chunks of 2 MB		free, or cut into 4 KB pages, or part of a larger page
 *	pages[]			one struct page for each 4 KB
 *
 * What lies below `top` can be read and written; above, it is only reserved.
 * Everything about chunks and pages is changed under the lock, by steps that a fork
 * may separate: see vm.h.  Reference counts are atomic.
 *
 * Lean code.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vm.h"

#define CHUNK_SHIFT	BIG_PGSHIFT
#define CHUNK		BIG_PGSIZE
#define CHUNK_PAGES	(CHUNK / PGSIZE)
#define GIANT_CHUNKS	(GIANT_PGSIZE / CHUNK)
#define POOL_SIZE	(MAX_PAGES * PGSIZE)
#define POOL_MIN	(64UL << 20)
#define MAX_CHUNKS	(POOL_SIZE / CHUNK)

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum chunk_state { CHUNK_FREE, CHUNK_SMALL, CHUNK_LARGE };

struct chunk {
	uint8_t state;
	uint16_t first;		/* LARGE: the chunk that the page begins with */
	uint16_t unused;	/* SMALL: pages from here on were never taken */
	uint16_t free;		/* SMALL: pages that can be taken */
	struct page *list;	/* SMALL: those that were given back */
};

DUNE_EXPORT struct page *pages;
DUNE_EXPORT int num_pages;

struct dune_pool __dune_pool;

static bool fixed_pool = true;
static uint64_t pool_size = POOL_SIZE;
static struct chunk chunks[MAX_CHUNKS];
static uint64_t with_free[MAX_CHUNKS / 64];	/* a bit per SMALL chunk that may have some */
static uint64_t first_chunk, end_chunk, top;	/* top: as a chunk number */
static uint64_t kept = MAX_CHUNKS;		/* an empty SMALL chunk that is not given back */

DUNE_EXPORT void dune_set_pool(bool fixed, size_t size)
{
	fixed_pool = fixed;
	if (size > POOL_SIZE)
		size = POOL_SIZE;
	pool_size = size < POOL_MIN ? POOL_MIN : (size + POOL_MIN - 1) & ~(POOL_MIN - 1);
}

static bool failed(long ret)
{
	return ret < 0 && ret > -4096;
}

static long reserve(uint64_t at, uint64_t size, int flags)
{
	return __dune_syscall6(SYS_mmap, (long)at, (long)size, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

static long reserve_pool(uint64_t *size)
{
	long at = -EEXIST;

	*size = pool_size;
	if (fixed_pool && !__dune_memory_is_private()) {
		at = reserve(PAGEBASE, *size, MAP_FIXED_NOREPLACE);
		if (!failed(at) && (uint64_t)at != PAGEBASE) {	/* before Linux 4.17: a hint */
			__dune_own3(SYS_munmap, at, *size, 0);
			at = -EEXIST;
		}
	}
	while (failed(at)) {
		at = __dune_map_own(*size, CHUNK, PROT_NONE, MAP_NORESERVE);
		if (!failed(at) || *size / 2 < POOL_MIN)
			break;
		*size /= 2;
	}
	return at;
}

/* Make all below chunk number @to usable. */
static int grow(uint64_t to)
{
	uint64_t from = top * CHUNK, mask = CHUNK;
	long ret;

	if (to <= top)
		return 0;
	ret = __dune_syscall3(SYS_mprotect, pages + top * CHUNK_PAGES,
			      (to - top) * CHUNK_PAGES * sizeof(struct page),
			      PROT_READ | PROT_WRITE);
	if (!ret)
		ret = __dune_syscall3(SYS_mprotect, __dune_pool.va + from, to * CHUNK - from,
				      PROT_READ | PROT_WRITE);
	if (ret)
		return (int)ret;
	top = to;
	num_pages = (int)(top * CHUNK_PAGES);
	while (mask * 2 <= top * CHUNK)
		mask *= 2;
	__atomic_store_n(&__dune_pool.mask, ~(mask - PGSIZE), __ATOMIC_RELEASE);
	return 0;
}

/* Reserve the pool, whose first @fixed bytes are for the tables of pgtable.c. */
int __dune_pool_reserve(uint64_t fixed)
{
	uint64_t size;
	long at = reserve_pool(&size);
	int ret;

	if (failed(at))
		return (int)at;
	__dune_pool.va = (uint64_t)at;
	__dune_pool.size = size;
	first_chunk = (fixed + CHUNK - 1) / CHUNK;
	end_chunk = (size - size / PGSIZE * sizeof(struct page)) / CHUNK;
	pages = (struct page *)(__dune_pool.va + end_chunk * CHUNK);
	ret = grow(first_chunk);
	if (ret)
		__dune_pool_release();
	return ret;
}

/* The pool has its windows. */
void __dune_pool_placed(void)
{
	__dune_pool.gpa = __dune_gpa(__dune_pool.va);
	__dune_pool.expect = __dune_pool.gpa + PT_TABLE;
	__dune_pool.shift = __dune_pool.gpa - __dune_pool.va;
}

/* dune_init() failed. */
void __dune_pool_release(void)
{
	__dune_own3(SYS_munmap, __dune_pool.va, __dune_pool.size, 0);
	__dune_clear(&__dune_pool, sizeof(__dune_pool));
	__dune_clear(chunks, sizeof(chunks));
	__dune_clear(with_free, sizeof(with_free));
	pages = NULL;
	num_pages = 0;
	top = 0;
}

/* ---- chunks: with the lock held ------------------------------------------ */

static bool all_free(uint64_t first, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		if (chunks[first + i].state != CHUNK_FREE)
			return false;
	return true;
}

/* The first of @nr free chunks, aligned to @nr; or end_chunk. */
static uint64_t take_chunks(uint64_t nr)
{
	uint64_t skew = __dune_pool.va / CHUNK % nr;
	uint64_t c = (first_chunk + skew + nr - 1) / nr * nr - skew;

	for (; c + nr <= end_chunk; c += nr)
		if (all_free(c, nr))
			return grow(c + nr) ? end_chunk : c;
	return end_chunk;
}

static void set_with_free(uint64_t c, bool on)
{
	if (on)
		with_free[c / 64] |= 1ULL << c % 64;
	else
		with_free[c / 64] &= ~(1ULL << c % 64);
}

static struct page *take_from(uint64_t c)
{
	struct chunk *ch = &chunks[c];
	struct page *pg = ch->list;

	if (pg)
		ch->list = pg->link.sle_next;
	else if (ch->unused < CHUNK_PAGES)
		pg = &pages[c * CHUNK_PAGES + ch->unused++];
	else
		return NULL;
	ch->free--;
	return pg;
}

static struct page *take_small(void)
{
	struct page *pg;
	uint64_t c;

	for (uint64_t i = first_chunk / 64; i * 64 < top; i++) {
		while (with_free[i]) {
			c = i * 64 + (uint64_t)__builtin_ctzll(with_free[i]);
			pg = take_from(c);
			if (pg)
				return pg;
			set_with_free(c, false);
		}
	}
	c = take_chunks(1);
	if (c == end_chunk)
		return NULL;
	chunks[c].list = NULL;
	chunks[c].unused = 0;
	chunks[c].free = CHUNK_PAGES;
	chunks[c].state = CHUNK_SMALL;
	set_with_free(c, true);
	return take_from(c);
}

static struct page *take_large(uint64_t nr)
{
	uint64_t c = take_chunks(nr);

	if (c == end_chunk)
		return NULL;
	for (uint64_t i = 0; i < nr; i++) {
		chunks[c + i].first = (uint16_t)c;
		chunks[c + i].state = CHUNK_LARGE;
	}
	chunks[c].free = (uint16_t)nr;	/* its length in chunks */
	return &pages[c * CHUNK_PAGES];
}

/* Chunks that hold nothing: the memory goes back to Linux. */
static void give_chunks(uint64_t first, uint64_t nr)
{
	for (uint64_t i = 0; i < nr; i++)
		chunks[first + i].state = CHUNK_FREE;
	__dune_syscall3(SYS_madvise, __dune_pool.va + first * CHUNK, nr * CHUNK, MADV_DONTNEED);
}

static void give_small(uint64_t c, struct page *pg)
{
	struct chunk *ch = &chunks[c];

	pg->link.sle_next = ch->list;
	ch->list = pg;
	ch->free++;
	set_with_free(c, true);
	if (ch->free != CHUNK_PAGES || kept == c)
		return;
	if (kept == MAX_CHUNKS || chunks[kept].state != CHUNK_SMALL ||
	    chunks[kept].free != CHUNK_PAGES) {
		kept = c;
		return;
	}
	set_with_free(c, false);
	give_chunks(c, 1);
}

static uint64_t chunk_of(const struct page *pg)
{
	return (uint64_t)(pg - pages) / CHUNK_PAGES % MAX_CHUNKS;
}

struct page *__dune_page_take(unsigned int order)
{
	struct page *pg = order == DUNE_ORDER_4K ? take_small() :
			  order == DUNE_ORDER_2M ? take_large(1) :
			  order == DUNE_ORDER_1G ? take_large(GIANT_CHUNKS) : NULL;

	if (pg)
		__atomic_store_n(&pg->ref, 1, __ATOMIC_RELEASE);
	return pg;
}

void __dune_page_give(struct page *pg)
{
	uint64_t c = chunk_of(pg);

	if (chunks[c].state == CHUNK_SMALL)
		give_small(c, pg);
	else if (chunks[c].state == CHUNK_LARGE)
		give_chunks(c, chunks[c].free);
}

/* The page that counts for @pg: a larger one's first. */
struct page *__dune_page_head(struct page *pg)
{
	const struct chunk *ch = &chunks[chunk_of(pg)];

	return ch->state == CHUNK_LARGE ? &pages[ch->first * CHUNK_PAGES] : pg;
}

int __dune_page_level(struct page *pg)
{
	const struct chunk *ch = &chunks[chunk_of(pg)];

	if (ch->state != CHUNK_LARGE)
		return 0;
	return chunks[ch->first].free == 1 ? 1 : 2;
}

/* ---- tables ----------------------------------------------------------- */

/* Zeroed tables for exception entry, which cannot wait for the lock. */
static ptent_t *spares[8];

ptent_t *__dune_table_alloc(void)
{
	struct page *pg = __dune_page_take(DUNE_ORDER_4K);
	ptent_t *table;

	if (!pg)
		return NULL;
	table = dune_page2va(pg);
	__dune_clear(table, PGSIZE);
	return table;
}

/* A table that is not the allocator's is somebody else's to free. */
void __dune_table_free(ptent_t *table)
{
	uint64_t offset = (uint64_t)table - __dune_pool.va;
	struct page *pg;

	if (offset >= top * CHUNK || offset < first_chunk * CHUNK)
		return;
	pg = __dune_page_head(&pages[offset >> PGSHIFT]);
	if (pg->ref && !__atomic_sub_fetch(&pg->ref, 1, __ATOMIC_ACQ_REL))
		__dune_page_give(pg);
}

void __dune_spares_fill(void)
{
	for (unsigned int i = 0; i < sizeof(spares) / sizeof(spares[0]); i++)
		if (!__atomic_load_n(&spares[i], __ATOMIC_ACQUIRE))
			__atomic_store_n(&spares[i], __dune_table_alloc(), __ATOMIC_RELEASE);
}

ptent_t *__dune_table_spare(bool locked)
{
	ptent_t *table = NULL;

	if (locked)
		return __dune_table_alloc();
	for (unsigned int i = 0; i < sizeof(spares) / sizeof(spares[0]) && !table; i++)
		table = __atomic_exchange_n(&spares[i], NULL, __ATOMIC_ACQ_REL);
	if (table)
		return table;
	while (!__dune_vm_trylock())	/* its holder runs: it does not come here */
		__asm__ volatile("pause");
	table = __dune_table_alloc();
	__dune_vm_unlock();
	return table;
}

/* What __dune_table_spare() gave is not wanted after all. */
void __dune_table_unused(ptent_t *table, bool locked)
{
	ptent_t *none = NULL;

	if (locked) {
		__dune_table_free(table);
		return;
	}
	__dune_clear(table, PGSIZE);
	for (unsigned int i = 0; i < sizeof(spares) / sizeof(spares[0]); i++, none = NULL)
		if (__atomic_compare_exchange_n(&spares[i], &none, table, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED))
			return;
	while (!__dune_vm_trylock())
		__asm__ volatile("pause");
	__dune_table_free(table);
	__dune_vm_unlock();
}

/* ---- for programs ----------------------------------------------------- */

DUNE_EXPORT struct page *dune_page_alloc_order(unsigned int order)
{
	struct page *pg;

	if (!__dune_pool.size)
		return NULL;
	__dune_vm_lock();
	pg = __dune_page_take(order);
	__dune_vm_unlock();
	return pg;
}

DUNE_EXPORT struct page *dune_page_alloc(void)
{
	return dune_page_alloc_order(DUNE_ORDER_4K);
}

DUNE_EXPORT void dune_page_free(struct page *pg)
{
	__dune_vm_lock();
	pg = __dune_page_head(pg);
	if (__atomic_exchange_n(&pg->ref, 0, __ATOMIC_ACQ_REL))
		__dune_page_give(pg);
	__dune_vm_unlock();
}

DUNE_EXPORT struct page *dune_page_get(struct page *pg)
{
	__atomic_add_fetch(&__dune_page_head(pg)->ref, 1, __ATOMIC_ACQ_REL);
	return pg;
}

DUNE_EXPORT void dune_page_put(struct page *pg)
{
	pg = __dune_page_head(pg);
	if (__atomic_sub_fetch(&pg->ref, 1, __ATOMIC_ACQ_REL))
		return;
	__dune_vm_lock();
	__dune_page_give(pg);
	__dune_vm_unlock();
}

/* Pages of the pool so far, and how many of them are in use. */
uint64_t __dune_page_counts(uint64_t *used)
{
	uint64_t have;

	*used = 0;
	__dune_vm_lock();
	have = top > first_chunk ? (top - first_chunk) * CHUNK_PAGES : 0;
	for (uint64_t c = first_chunk; c < top; c++)
		*used += chunks[c].state == CHUNK_LARGE ? CHUNK_PAGES :
			 chunks[c].state == CHUNK_SMALL ? CHUNK_PAGES - chunks[c].free : 0;
	__dune_vm_unlock();
	return have;
}

DUNE_EXPORT bool dune_page_isfrompool(physaddr_t pa)
{
	return pa - __dune_pool.gpa - first_chunk * CHUNK < (top - first_chunk) * CHUNK;
}

DUNE_EXPORT struct page *dune_pa2page(physaddr_t pa)
{
	return &pages[(pa - __dune_pool.gpa) >> PGSHIFT];
}

DUNE_EXPORT physaddr_t dune_page2pa(struct page *pg)
{
	return __dune_pool.gpa + ((physaddr_t)(pg - pages) << PGSHIFT);
}

DUNE_EXPORT void *dune_page2va(struct page *pg)
{
	return (void *)(__dune_pool.va + ((uint64_t)(pg - pages) << PGSHIFT));
}
