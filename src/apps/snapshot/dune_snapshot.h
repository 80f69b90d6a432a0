/* SPDX-License-Identifier: MIT */
/*
 * libdunesnapshot: consistent snapshots of a heap inside of one process.
 *
 * What fork() is used for when a program only wants to look at its memory as it is now, in
 * order to save it, while it goes on changing it.  fork() copies the page tables of the
 * whole process, and each page that is written to afterwards costs an exception in the
 * kernel.  Here the process edits its own page tables: a snapshot clears one bit for each
 * GiB, whatever is in use, and a page that is written to afterwards is copied by the
 * process's own page-fault handler.
 *
 * The heap is memory of the process as any other; the program puts what it likes there,
 * and pointers into it mean the same in a snapshot.  Only the heap is in a snapshot:
 * stacks, globals and malloc() are not.
 *
 * Linux does not know of it.  System calls that write to the heap (read() into it) go past
 * the page tables of the process: dune_heap_touch() comes before them.  What shares the
 * heap's memory with other processes, or maps other memory there, is not supported.
 *
 * Errors are negative errno values.  All of it wants Dune mode, ring 0, and dune_init(true).
 *
 * Threads.  Any of them may call any function at any time, but no signal handler, and a
 * signal handler must not write to the heap.  Those that write run on pgroot.  A fork()
 * leaves the child with the heap as it is at that moment, and with the snapshots, if no other
 * thread was in one of these functions.
 */
#ifndef DUNE_SNAPSHOT_H
#define DUNE_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct dune_heap;
struct dune_snapshot;

/* Snapshots of one heap at a time. */
#define DUNE_SNAPSHOTS_MAX	8
#define DUNE_HEAP_GIB_MAX	64

/* Counted from dune_heap_new() on; each of them only grows but the last. */
struct dune_heap_stats {
	uint64_t faults;		/* writes that had to wait for dune_heap_fault() */
	uint64_t copies;		/* pages copied */
	uint64_t shootdowns;		/* of other threads' TLBs, for a copied page */
	uint64_t bytes;			/* in copies and tables, now */
};

/**
 * dune_heap_new - reserve address space for a heap
 * @gib: its size in GiB, 1 to DUNE_HEAP_GIB_MAX.  Memory is used as it is touched.
 * @unit: pages that are copied at the first write to one of them: a power of two, 1 to 512.
 *	More of them make fewer faults and more copies.
 * @heap: where the answer goes
 *
 * With the first heap, dune_snapshot_on_fault() becomes the page-fault handler.
 * Return: 0; -EINVAL; -ENOMEM; -EPERM not in ring 0 of Dune mode; -ENOSPC four heaps.
 */
int dune_heap_new(size_t gib, unsigned int unit, struct dune_heap **heap);

/* Its first byte, at a multiple of 1 GiB, and its size in bytes. */
void *dune_heap_base(const struct dune_heap *heap);
size_t dune_heap_size(const struct dune_heap *heap);

/**
 * dune_heap_free - give a heap back, with its contents
 *
 * Return: 0; -EBUSY it has snapshots.
 */
int dune_heap_free(struct dune_heap *heap);

void dune_heap_stats(struct dune_heap *heap, struct dune_heap_stats *stats);

/**
 * dune_heap_touch - make a part of the heap writable, as a write to each page would
 *
 * For what is about to be written by a system call.  It lasts until the next
 * dune_snapshot_take(): a snapshot that is taken before the system call is done may see a
 * part of what it writes, and so may those that are taken later.
 * Return: 0; -EINVAL a range outside of the heap; -ENOMEM.
 */
int dune_heap_touch(struct dune_heap *heap, void *addr, size_t len);

/**
 * dune_snapshot_take - the heap as it is now
 *
 * Its costs depend on the size that was reserved (one entry per GiB), not on what is in it.
 * With other threads writing, it is a consistent cut: of what they write, it has all that
 * any write it has could depend on.
 * Return: 0; -EAGAIN there are DUNE_SNAPSHOTS_MAX; -ENOMEM.
 */
int dune_snapshot_take(struct dune_heap *heap, struct dune_snapshot **snapshot);

/**
 * dune_snapshot_view - run @fn with the heap as it was
 *
 * On the calling thread, whose page tables are the snapshot's meanwhile: the heap is the old
 * one and read-only, all else is as it is.  Linux sees the heap as it is now, so what a
 * system call reads from it (write()) is not the snapshot: copy it out of the heap first.
 * Mappings that the program made in pgroot by dune_vm_*() after dune_heap_new() are not there.
 * Return: what @fn returned; -EPERM on other page tables than pgroot.
 */
int dune_snapshot_view(struct dune_snapshot *snapshot, int (*fn)(void *arg), void *arg);

/**
 * dune_snapshot_free - forget it, and the copies that only it has
 *
 * Return: 0; -EBUSY a thread is in dune_snapshot_view().
 */
int dune_snapshot_free(struct dune_snapshot *snapshot);

struct dune_tf;

/**
 * dune_heap_fault - for page-fault handlers of the program's own
 * @addr, @fec: what the handler was given
 *
 * Return: true: it was a write that is possible now.
 */
bool dune_heap_fault(uintptr_t addr, uint64_t fec);

/* dune_heap_fault(), and the signal of before for all other faults. */
void dune_snapshot_on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf);

#ifdef __cplusplus
}
#endif

#endif /* DUNE_SNAPSHOT_H */
