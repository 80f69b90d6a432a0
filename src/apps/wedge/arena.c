// SPDX-License-Identifier: MIT
/* The arena: pages for ring 0, tags, smalloc(). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define UNIT		BIG_PGSIZE
#define UNITS		(TAG_GIBS * GIANT_PGSIZE / UNIT)
#define SLOT_SIZE	(512 * GIANT_PGSIZE)
#define ALIGN		16UL

uintptr_t arena;

static unsigned int pages_lock, tags_lock;
static uintptr_t pages_next;
static struct free_page {
	struct free_page *next;
} *pages_free;
static struct wedge_tag *tags;
static unsigned char unit_used[UNITS];

/* A piece of a tag, free or not; all of them make up the tag. */
struct piece {
	struct piece *next, *prev;
	uintptr_t at;
	size_t len;
	bool used;
};

/* A slot of the root that holds nothing else. */
int arena_init(void)
{
	for (unsigned long slot = 64; slot < 160; slot++) {
		void *want = (void *)(slot * SLOT_SIZE);
		void *at;

		if (!dune_pte_lazy(pgroot[slot], 3))
			continue;
		at = mmap(want, ARENA_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
		if (at == want) {
			arena = (uintptr_t)at;
			pages_next = arena;
			return 0;
		}
		if (at != MAP_FAILED)
			munmap(at, ARENA_SIZE);
	}
	return -ENOMEM;
}

void *page_get_as_is(void)
{
	struct free_page *page;

	lock(&pages_lock);
	page = pages_free;
	if (page) {
		pages_free = page->next;
	} else if (pages_next < arena + BOOKS_AT) {
		page = (void *)pages_next;
		pages_next += PGSIZE;
	}
	unlock(&pages_lock);
	return page;
}

void *page_get(void)
{
	void *page = page_get_as_is();

	if (page)
		zero_words(page, PGSIZE);
	return page;
}

void page_put(void *at)
{
	struct free_page *page = at;

	lock(&pages_lock);
	page->next = pages_free;
	pages_free = page;
	unlock(&pages_lock);
}

/* ---- tags ------------------------------------------------------------------ */

static bool units_free(size_t first, size_t nr)
{
	/* A tag lies in one GiB, so that a cell needs one table for it. */
	if (first / NPTENTRIES != (first + nr - 1) / NPTENTRIES)
		return false;
	for (size_t i = first; i < first + nr; i++)
		if (unit_used[i])
			return false;
	return true;
}

static uintptr_t units_get(size_t nr)
{
	uintptr_t at = 0;

	lock(&tags_lock);
	for (size_t i = 0; i + nr <= UNITS && !at; i++)
		if (units_free(i, nr)) {
			memset(&unit_used[i], 1, nr);
			at = arena + TAG_GIB * GIANT_PGSIZE + i * UNIT;
		}
	unlock(&tags_lock);
	return at;
}

static void units_put(uintptr_t at, size_t nr)
{
	size_t first = (at - arena - TAG_GIB * GIANT_PGSIZE) / UNIT;

	lock(&tags_lock);
	memset(&unit_used[first], 0, nr);
	unlock(&tags_lock);
}

static void tag_free(struct wedge_tag *t)
{
	for (size_t i = 0; t->l0 && i < t->size / UNIT; i++)
		if (t->l0[i])
			page_put(t->l0[i]);
	while (t->pieces) {
		struct piece *p = t->pieces;

		t->pieces = p->next;
		free(p);
	}
	if (t->base) {
		madvise((void *)t->base, t->size, MADV_DONTNEED);
		units_put(t->base, t->size / UNIT);
	}
	free(t->l0);
	free(t);
}

/* Entries of 4 KB, so that it can be told which pages were used. */
static int tag_tables(struct wedge_tag *t)
{
	t->l0 = calloc(t->size / UNIT, sizeof(*t->l0));
	t->pieces = calloc(1, sizeof(*t->pieces));
	if (!t->l0 || !t->pieces)
		return -ENOMEM;
	t->pieces->at = t->base;
	t->pieces->len = t->size;
	for (size_t i = 0; i < t->size / UNIT; i++) {
		ptent_t pa = entry_of((void *)(t->base + i * UNIT));

		t->l0[i] = page_get();
		if (!t->l0[i] || pa == (ptent_t)-1)
			return -ENOMEM;
		for (unsigned int k = 0; k < NPTENTRIES; k++)
			t->l0[i][k] = (pa + k * PGSIZE) | PTE_P | PTE_W | PTE_U | PTE_NX;
	}
	return 0;
}

int tag_new(size_t size, struct wedge_tag **tag)
{
	struct wedge_tag *t;
	int ret;

	if (!wedge_ready)
		return -EPERM;
	if (!size || size > GIANT_PGSIZE)
		return -EINVAL;
	t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->size = (size + UNIT - 1) & ~(UNIT - 1);
	t->base = units_get(t->size / UNIT);
	ret = t->base ? tag_tables(t) : -ENOSPC;
	if (ret) {
		tag_free(t);
		return ret;
	}
	lock(&tags_lock);
	t->next = tags;
	tags = t;
	unlock(&tags_lock);
	*tag = t;
	return 0;
}

int tag_delete(struct wedge_tag *tag)
{
	int ret = -EINVAL;

	lock(&tags_lock);
	for (struct wedge_tag **at = &tags; *at; at = &(*at)->next)
		if (*at == tag) {
			ret = tag->users ? -EBUSY : 0;
			if (!ret)
				*at = tag->next;
			break;
		}
	unlock(&tags_lock);
	if (!ret)
		tag_free(tag);
	return ret;
}

void *tag_base(const struct wedge_tag *tag)
{
	return (void *)tag->base;
}

size_t tag_size(const struct wedge_tag *tag)
{
	return tag->size;
}

bool tag_hold(struct wedge_tag *tag)
{
	bool there = false;

	lock(&tags_lock);
	for (struct wedge_tag *t = tags; t && !there; t = t->next)
		there = t == tag;
	if (there)
		tag->users++;
	unlock(&tags_lock);
	return there;
}

void tag_drop(struct wedge_tag *tag)
{
	lock(&tags_lock);
	tag->users--;
	unlock(&tags_lock);
}

struct wedge_tag *tag_at(uintptr_t addr)
{
	struct wedge_tag *t;

	lock(&tags_lock);
	for (t = tags; t && addr - t->base >= t->size; t = t->next)
		;
	unlock(&tags_lock);
	return t;
}

/* No tag may come or go meanwhile. */
void tags_each(void (*fn)(int out, const struct sthread_sc *sc, const struct wedge_tag *tag),
	       int out, const struct sthread_sc *sc)
{
	for (const struct wedge_tag *t = tags; t; t = t->next)
		fn(out, sc, t);
}

/* ---- smalloc() --------------------------------------------------------------- */

static unsigned int pieces_lock;

/* @p keeps @size bytes, a free piece behind it gets the others. */
static bool split(struct piece *p, size_t size)
{
	struct piece *rest;

	if (p->len == size)
		return true;
	rest = calloc(1, sizeof(*rest));
	if (!rest)
		return false;
	rest->at = p->at + size;
	rest->len = p->len - size;
	rest->prev = p;
	rest->next = p->next;
	if (rest->next)
		rest->next->prev = rest;
	p->next = rest;
	p->len = size;
	return true;
}

/* @p and what is behind it are free: one piece. */
static void merge(struct piece *p)
{
	struct piece *next = p->next;

	if (!next || next->used || p->used)
		return;
	p->len += next->len;
	p->next = next->next;
	if (p->next)
		p->next->prev = p;
	free(next);
}

static void *from_ring3(long nr, uint64_t a, uint64_t b)
{
	void *ret;

	asm volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return ret;
}

void *smalloc(size_t size, struct wedge_tag *tag)
{
	struct piece *p;

	if (ring() == 3)
		return from_ring3(NR_SMALLOC, size, (uint64_t)tag);
	if (!size || size > tag->size)
		return NULL;
	size = (size + ALIGN - 1) & ~(ALIGN - 1);
	lock(&pieces_lock);
	for (p = tag->pieces; p && (p->used || p->len < size); p = p->next)
		;
	if (p && split(p, size))
		p->used = true;
	else
		p = NULL;
	unlock(&pieces_lock);
	if (!p)
		return NULL;
	memset((void *)p->at, 0, size);
	return (void *)p->at;
}

bool piece_free(struct wedge_tag *tag, uintptr_t addr)
{
	struct piece *p;
	bool found;

	lock(&pieces_lock);
	for (p = tag->pieces; p && p->at != addr; p = p->next)
		;
	found = p && p->used;
	if (found) {
		p->used = false;
		merge(p);
		if (p->prev)
			merge(p->prev);
	}
	unlock(&pieces_lock);
	return found;
}

void sfree(void *addr)
{
	struct wedge_tag *tag;

	if (!addr)
		return;
	if (ring() == 3) {
		from_ring3(NR_SFREE, (uint64_t)addr, 0);
		return;
	}
	tag = tag_at((uintptr_t)addr);
	if (tag && piece_free(tag, (uintptr_t)addr))
		return;
	dune_printf("libwedge: sfree(%p): not from smalloc()\n", addr);
	dune_die();
}
