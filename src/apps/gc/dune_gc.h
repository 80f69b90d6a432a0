/* SPDX-License-Identifier: MIT */
/*
 * libdunegc: the Boehm collector, told by the process's own page tables what was written to.
 *
 * It is libgc with another way to find dirty pages, which the incremental and generational
 * collector needs; programs use <gc.h> as ever and link libdunegc.a, which holds libdune, in
 * place of libgc.  The mode is chosen by dune_gc_set_mode(), or by the environment:
 *
 *	GC_DUNE_MODE=off	libgc's own ways; the default
 *	GC_DUNE_MODE=faults	write protection, a page at a time
 *	GC_DUNE_MODE=batched	write protection, 16 pages at a time, one flush
 *	GC_DUNE_MODE=bits	the D bits of the page-table entries
 *
 * and takes effect when the incremental collector starts: GC_enable_incremental(), or
 * GC_ENABLE_INCREMENTAL=1 in the environment of an unmodified program.  The thread that starts
 * it enters Dune mode there, if it is not there already.  If that is not possible the process
 * ends with a message, unless GC_DUNE_FALLBACK=1 says to go on by libgc's own ways.
 *
 * Threads.  All of them must be in Dune mode, on pgroot: so a process with more than one
 * thread enters Dune mode before it makes the others.
 *
 * The page-fault handler (dune_register_pgflt_handler()) and, unless GC_DUNE_SYSCALLS=0, the
 * system-call hooks (dune_hook_syscalls()) are the collector's.  A program that has its own
 * page-fault handler registers it after GC_enable_incremental() and calls dune_gc_fault().
 * The software bit PTE_USR3 in the entries of the heap is the collector's, too.
 */
#ifndef DUNE_GC_H
#define DUNE_GC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum dune_gc_mode {
	DUNE_GC_OFF,
	DUNE_GC_FAULTS,
	DUNE_GC_BATCHED,
	DUNE_GC_BITS,
};

/**
 * dune_gc_set_mode - choose, whatever GC_DUNE_MODE says
 *
 * Before the incremental collector starts; later it changes nothing.
 */
void dune_gc_set_mode(enum dune_gc_mode mode);

/* What is in use: DUNE_GC_OFF until the incremental collector starts. */
enum dune_gc_mode dune_gc_mode(void);

/* Counted since the incremental collector started, in all threads. */
struct dune_gc_stats {
	uint64_t faults;	/* writes that had to wait for a page to be opened */
	uint64_t spurious;	/* of those, for a page that another thread had opened */
	uint64_t closed;	/* pages that were write-protected */
	uint64_t opened;	/* pages that were made writable again */
	uint64_t read;		/* D bits that were looked at */
	uint64_t dirty;		/* and were set */
	uint64_t flushes;	/* of all TLBs */
	uint64_t calls;		/* system calls that were given a part of the heap */
};

void dune_gc_get_stats(struct dune_gc_stats *stats);

/**
 * dune_gc_was_dirty - was the page of the heap around @addr found dirty by the last collection
 * that asked?
 *
 * One that marks from scratch (GC_gcollect()) does not ask.
 */
bool dune_gc_was_dirty(const void *addr);

/**
 * dune_gc_fault - for page-fault handlers of the program's own
 * @addr, @fec: what the handler was given
 *
 * Return: true: it was a write that is possible now.
 */
bool dune_gc_fault(uintptr_t addr, uint64_t fec);

#ifdef __cplusplus
}
#endif

#endif /* DUNE_GC_H */
