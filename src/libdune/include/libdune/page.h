/* SPDX-License-Identifier: MIT */
/*
 * The page allocator: pages for page tables, and for whoever wants memory whose
 * guest-physical address it knows.
 *
 * The pool is reserved by dune_init() and grows as pages are taken: 4 GiB of
 * addresses at PAGEBASE, where virtual and guest-physical addresses are the same.
 * Where something else lies there, or after dune_set_pool(false, ...), it lies
 * anywhere, and dune_page2pa() and dune_page2va() differ.
 *
 * Thread rules: everything here may be called by any thread, in or out of Dune
 * mode, and by exception handlers, but not by a signal handler that may have
 * interrupted one of these functions or of dune_vm_*(): they share a lock.
 * dune_page_get() takes none.
 */
#ifndef LIBDUNE_PAGE_H
#define LIBDUNE_PAGE_H

/* Programs written for Dune find its lists here. */
#if __has_include(<sys/queue.h>)
#include <sys/queue.h>
#endif

#include "mmu-x86.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PAGEBASE	0x200000000UL
#define MAX_PAGES	(1UL << 20)

#define DUNE_ORDER_4K	0
#define DUNE_ORDER_2M	9
#define DUNE_ORDER_1G	18

/* The link of a list of pages and its head, as <sys/queue.h> has them (SLIST_*). */
typedef struct {
	struct page *sle_next;
} page_entry_t;

struct page_head {
	struct page *slh_first;
};

/* A page of the pool.  One of 2 MB or 1 GB is known by the first of its 4 KB pages. */
struct page {
	page_entry_t link;	/* the owner's, while it has the page */
	uint64_t ref;		/* 0: free.  Of a larger page: in the first */
};

/* pages[i] is the page at guest-physical base + i * PGSIZE; num_pages can be used. */
extern struct page *pages;
extern int num_pages;

/**
 * dune_set_pool - where the pool lies, and how large it is
 * @fixed: true: at PAGEBASE if nothing else is there; false: anywhere
 * @size: bytes of addresses, rounded to 64 MiB .. 4 GiB
 *
 * Before dune_init(); later it has no effect.  Without it: true and 4 GiB.  For a
 * program that wants the addresses from 8 to 12 GiB itself, or that lives with a
 * limit on its address space (RLIMIT_AS), which counts what is reserved.
 */
void dune_set_pool(bool fixed, size_t size);

/**
 * dune_page_alloc - take a page of 4 KB
 *
 * Its contents are not defined.  One reference, the caller's.
 * Return: NULL: out of memory or addresses, or no dune_init().
 */
struct page *dune_page_alloc(void);

/**
 * dune_page_alloc_order - take a page of 4 KB, 2 MB or 1 GB, aligned to its size
 * @order: DUNE_ORDER_4K, _2M or _1G
 *
 * Memory is used as it is touched.  A larger page may be mapped in pieces.
 * Return: NULL, also for another order.
 */
struct page *dune_page_alloc_order(unsigned int order);

/**
 * dune_page_free - give a page back, whatever its count
 *
 * Nobody may use it any more.  An empty 2 MB of the pool goes back to Linux.
 */
void dune_page_free(struct page *pg);

/**
 * dune_page_get, dune_page_put - one reference more, or less; the last one frees
 *
 * Atomic.  Every entry that dune_vm_*() makes for a page of the pool holds one.
 * Return: the page.
 */
struct page *dune_page_get(struct page *pg);
void dune_page_put(struct page *pg);

/* Print by dune_printf() how many pages are in use and how many there are. */
void dune_page_stats(void);

/**
 * dune_page_isfrompool - is @pa the address of a page that can be allocated?
 */
bool dune_page_isfrompool(physaddr_t pa);

/*
 * The page at a guest-physical address, which must be from the pool; its
 * guest-physical address; where it is mapped in pgroot.
 */
struct page *dune_pa2page(physaddr_t pa);
physaddr_t dune_page2pa(struct page *pg);
void *dune_page2va(struct page *pg);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_PAGE_H */
