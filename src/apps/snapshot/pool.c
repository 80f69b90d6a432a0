// SPDX-License-Identifier: MIT
/*
 * Pages for tables and copies: process memory like any other, so that it is where Linux and
 * the guest's page tables both know it.  Chunks of 2 MiB are mapped as they are needed and
 * kept until the heap is freed; the first page of each counts the references of the others.
 */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

struct chunk {
	struct chunk *next;
	uint16_t refs[NPTENTRIES];		/* of its pages; a snapshot each, at most */
};

struct free_page {
	struct free_page *next;
};

_Static_assert(sizeof(struct chunk) <= PGSIZE, "the chunk's page");

static struct chunk *chunk_of(const void *page)
{
	return (struct chunk *)((uintptr_t)page & ~(BIG_PGSIZE - 1));
}

static uint16_t *refs_of(void *page)
{
	return &chunk_of(page)->refs[((uintptr_t)page & (BIG_PGSIZE - 1)) / PGSIZE];
}

uintptr_t map_aligned(size_t size, size_t align)
{
	uintptr_t at = (uintptr_t)mmap(NULL, size + align, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t start = (at + align - 1) & ~(align - 1);

	if (at == (uintptr_t)MAP_FAILED)
		return 0;
	if (start > at)
		munmap((void *)at, start - at);
	munmap((void *)(start + size), at + align - start);
	return start;
}

static int grow(struct pool *pool)
{
	uintptr_t start = map_aligned(BIG_PGSIZE, BIG_PGSIZE);
	struct chunk *c = (struct chunk *)start;

	if (!start)
		return -ENOMEM;
	c->next = pool->chunks;
	pool->chunks = c;
	for (unsigned int i = NPTENTRIES - 1; i; i--) {
		struct free_page *page = (void *)(start + i * PGSIZE);

		page->next = pool->free;
		pool->free = page;
	}
	return 0;
}

void *pool_get(struct pool *pool)
{
	struct free_page *page;

	if (!pool->free && grow(pool))
		return NULL;
	page = pool->free;
	pool->free = page->next;
	pool->used++;
	*refs_of(page) = 1;
	return page;
}

void pool_share(void *page)
{
	++*refs_of(page);
}

void pool_put(struct pool *pool, void *page)
{
	struct free_page *free = page;

	if (--*refs_of(page))
		return;
	free->next = pool->free;
	pool->free = free;
	pool->used--;
}

void pool_free(struct pool *pool)
{
	while (pool->chunks) {
		struct chunk *c = pool->chunks;

		pool->chunks = c->next;
		munmap(c, BIG_PGSIZE);
	}
	pool->free = NULL;
	pool->used = 0;
}
