/* SPDX-License-Identifier: MIT */
/*
 * The parts of the backend.
 *
 * entries.c	the page-table entries of the heap: W, D and the mark of a page that is closed
 * backend.c	modes, the page-fault handler, what libgc calls
 * calls.c	system calls that write to the heap
 *
 * Nothing here takes a lock that a stopped thread may hold: libgc stops the world by signals,
 * and a thread may be stopped in the page-fault handler or in a hook.  So entries are changed
 * by single atomic operations, and what can only be done under libdune's lock (splitting large
 * entries) is done as the heap grows, when the world runs.
 */
#ifndef GC_INTERNAL_H
#define GC_INTERNAL_H

#include <libdune/dune.h>

#include "dune_gc_hooks.h"

/* In an entry: W was taken away here. */
#define CLOSED	PTE_USR3

extern const struct dune_gc_client *gc_client;
extern struct dune_gc_stats gc_stats;

static inline void count(uint64_t *of, uint64_t n)
{
	__atomic_fetch_add(of, n, __ATOMIC_RELAXED);
}

/* Ends the process. */
void gc_fail(const char *what, int error) __attribute__((noreturn));

/* entries.c */
int entries_add(uintptr_t start, size_t bytes);
ptent_t *entry_at(uintptr_t addr);		/* NULL: not of the heap */
uint64_t entries_close(uintptr_t start, size_t bytes);	/* how many pages */
bool entry_open(ptent_t *entry);		/* false: it was open */
void entries_dirty(uintptr_t start, size_t bytes);
uint64_t entries_take(uintptr_t start, size_t bytes, void (*tell)(void *page));

/* backend.c: pages of the heap are written to, past the page tables. */
void gc_written(uintptr_t start, uintptr_t end);

/* calls.c */
void calls_begin(void);
void calls_in_flight(void (*written)(uintptr_t start, uintptr_t end), void (*all)(void));

#endif /* GC_INTERNAL_H */
