/* SPDX-License-Identifier: MIT */
/*
 * Between libgc, as libgc.patch changes it, and the backend in this folder.  libgc calls these
 * functions with its allocation lock held.
 */
#ifndef DUNE_GC_HOOKS_H
#define DUNE_GC_HOOKS_H

#include <stddef.h>

#include "dune_gc.h"

/* libgc's side.  The first two are called without its lock, in exception handlers and hooks. */
struct dune_gc_client {
	int (*dirty)(void *page);	/* to be found dirty next time; 0: it holds no objects */
	void *(*object_end)(void *p);	/* of the object that @p points into; NULL: none */
	void (*grungy)(void *page);	/* was found dirty */
	void (*all_grungy)(void);	/* all were */
	int (*was_dirty)(void *page);	/* ... in the last collection? */
};

/*
 * Between them lies what libdune and the backend remember, a megabyte without a pointer to an
 * object: no root.
 */
extern char dune_gc_bss_begin[], dune_gc_bss_end[];

/* The mode in use from now on.  With DUNE_GC_OFF libgc goes its own ways. */
int dune_gc_begin(const struct dune_gc_client *client);

/* Whole pages are heap from now on. */
void dune_gc_add(void *start, size_t bytes);

/* Write-protect pages of the heap, or open them. */
void dune_gc_protect(void *start, size_t bytes, int writable);

/* All that was to be protected is.  @tell: what was dirty is being asked for. */
void dune_gc_protected(int tell);

/* Clear the D bits of pages, and with @tell call client->grungy() for those that were set. */
void dune_gc_take(void *start, size_t bytes, int tell);

/* The last of them. */
void dune_gc_taken(int tell);

#endif /* DUNE_GC_HOOKS_H */
