// SPDX-License-Identifier: MIT
/* Heaps, snapshots and views: dune_snapshot.h. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define HEAPS_MAX	4

/* Only ever written to under a lock of its own; read by the fault handler without. */
static struct dune_heap *heaps[HEAPS_MAX];
static unsigned int heaps_lock;

static void lock(unsigned int *l)
{
	while (__atomic_exchange_n(l, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(l, __ATOMIC_RELAXED))
			asm volatile("pause");
}

static void unlock(unsigned int *l)
{
	__atomic_store_n(l, 0, __ATOMIC_RELEASE);
}

static bool on_pgroot(void)
{
	return PTE_ADDR(dune_read_cr3()) == dune_va_to_pa(pgroot);
}

static bool in_ring0(void)
{
	unsigned int cs;

	asm("mov %%cs, %0" : "=r"(cs));
	return !(cs & 3);
}

/* ---- heaps ------------------------------------------------------------------ */

static int enlist(struct dune_heap *h)
{
	int ret = -ENOSPC;

	lock(&heaps_lock);
	for (int i = 0; i < HEAPS_MAX; i++)
		if (!heaps[i]) {
			__atomic_store_n(&heaps[i], h, __ATOMIC_RELEASE);
			ret = 0;
			break;
		}
	unlock(&heaps_lock);
	return ret;
}

static void delist(struct dune_heap *h)
{
	lock(&heaps_lock);
	for (int i = 0; i < HEAPS_MAX; i++)
		if (heaps[i] == h)
			__atomic_store_n(&heaps[i], NULL, __ATOMIC_RELEASE);
	unlock(&heaps_lock);
}

static struct dune_heap *heap_at(uintptr_t addr)
{
	for (int i = 0; i < HEAPS_MAX; i++) {
		struct dune_heap *h = __atomic_load_n(&heaps[i], __ATOMIC_ACQUIRE);

		if (h && addr - h->base < h->gib * GIANT_PGSIZE)
			return h;
	}
	return NULL;
}

int dune_heap_new(size_t gib, unsigned int unit, struct dune_heap **heap)
{
	struct dune_heap *h;
	int ret;

	if (!gib || gib > DUNE_HEAP_GIB_MAX || !unit || unit > NPTENTRIES || unit & (unit - 1))
		return -EINVAL;
	if (!in_ring0())
		return -EPERM;
	h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->gib = gib;
	h->unit = unit;
	h->base = map_aligned(gib * GIANT_PGSIZE, GIANT_PGSIZE);
	ret = h->base ? tables_new(h) : -ENOMEM;
	if (!ret) {
		for (int i = 0; i < DUNE_SNAPSHOTS_MAX; i++)
			h->snapshots[i].heap = h;
		ret = enlist(h);
		if (ret)
			tables_free(h);
	}
	if (ret) {
		if (h->base)
			munmap((void *)h->base, gib * GIANT_PGSIZE);
		free(h);
		return ret;
	}
	dune_register_pgflt_handler(dune_snapshot_on_fault);
	*heap = h;
	return 0;
}

void *dune_heap_base(const struct dune_heap *heap)
{
	return (void *)heap->base;
}

size_t dune_heap_size(const struct dune_heap *heap)
{
	return heap->gib * GIANT_PGSIZE;
}

int dune_heap_free(struct dune_heap *heap)
{
	lock(&heap->lock);
	if (heap->taken) {
		unlock(&heap->lock);
		return -EBUSY;
	}
	delist(heap);
	tables_free(heap);
	munmap((void *)heap->base, heap->gib * GIANT_PGSIZE);
	free(heap);
	return 0;
}

void dune_heap_stats(struct dune_heap *heap, struct dune_heap_stats *stats)
{
	lock(&heap->lock);
	*stats = heap->stats;
	stats->bytes = heap->pool.used * PGSIZE;
	unlock(&heap->lock);
}

/* ---- writes ------------------------------------------------------------------- */

int dune_heap_touch(struct dune_heap *heap, void *addr, size_t len)
{
	uintptr_t at = (uintptr_t)addr - heap->base, size = heap->gib * GIANT_PGSIZE;
	int ret = 0;

	if (at > size || len > size - at)
		return -EINVAL;
	lock(&heap->lock);
	for (uintptr_t va = PGADDR(addr); ret >= 0 && va < (uintptr_t)addr + len; va += PGSIZE)
		ret = tables_open(heap, va);
	unlock(&heap->lock);
	return ret < 0 ? ret : 0;
}

/* The address of the last fault that found everything in order. */
static __thread uintptr_t spurious;

bool dune_heap_fault(uintptr_t addr, uint64_t fec)
{
	struct dune_heap *h;
	int ret;

	if ((fec & (FEC_P | FEC_W | FEC_RSV)) != (FEC_P | FEC_W))
		return false;
	h = heap_at(addr);
	if (!h || !on_pgroot())
		return false;
	lock(&h->lock);
	ret = tables_open(h, addr);
	h->stats.faults += !ret;
	unlock(&h->lock);
	if (ret < 0) {
		dune_printf("snapshot: no memory for the copy of a page at 0x%lx\n",
			    (unsigned long)addr);
		_exit(70);
	}
	/*
	 * Another thread was here first, and this CPU had the entry of before.  Twice: it is
	 * not ours; the mapping of the process forbids it.
	 */
	if (ret && spurious == addr) {
		spurious = 0;
		return false;
	}
	spurious = ret ? addr : 0;
	dune_flush_tlb_one(addr);
	return true;
}

void dune_snapshot_on_fault(uintptr_t addr, uint64_t fec, struct dune_tf *tf)
{
	if (!dune_heap_fault(addr, fec))
		dune_vm_default_pgflt_handler(addr, fec, tf);
}

/* ---- snapshots ----------------------------------------------------------------- */

int dune_snapshot_take(struct dune_heap *heap, struct dune_snapshot **snapshot)
{
	struct dune_snapshot *s = NULL;
	int ret = -EAGAIN;

	lock(&heap->lock);
	/* One with a root first. */
	for (int i = 0; i < DUNE_SNAPSHOTS_MAX; i++) {
		struct dune_snapshot *one = &heap->snapshots[i];

		if (!one->taken && (!s || (one->root && !s->root)))
			s = one;
	}
	if (s)
		ret = tables_snapshot(heap, s);
	if (!ret) {
		s->taken = true;
		heap->taken++;
		*snapshot = s;
	}
	unlock(&heap->lock);
	return ret;
}

int dune_snapshot_view(struct dune_snapshot *snapshot, int (*fn)(void *arg), void *arg)
{
	unsigned long before = dune_read_cr3();
	int ret;

	if (!on_pgroot())
		return -EPERM;
	__atomic_add_fetch(&snapshot->viewers, 1, __ATOMIC_SEQ_CST);
	load_cr3(dune_va_to_pa(snapshot->root));
	ret = fn(arg);
	load_cr3(before);
	__atomic_sub_fetch(&snapshot->viewers, 1, __ATOMIC_SEQ_CST);
	return ret;
}

int dune_snapshot_free(struct dune_snapshot *snapshot)
{
	struct dune_heap *h = snapshot->heap;
	int ret = -EBUSY;

	lock(&h->lock);
	if (!__atomic_load_n(&snapshot->viewers, __ATOMIC_SEQ_CST)) {
		tables_forget(h, snapshot);
		snapshot->taken = false;
		h->taken--;
		ret = 0;
	}
	unlock(&h->lock);
	return ret;
}
