// SPDX-License-Identifier: MIT
/*
 * The page-table entries of the heap.
 *
 * Each 2 MB that hold a part of the heap get a table of 4 KB entries in pgroot; where it lies
 * is remembered, so that an entry is found by two loads.  The CPU sets A and D at any time.
 */
#include <errno.h>
#include <sys/mman.h>

#include "internal.h"

/* 2^13 times 2^13 tables of 2 MB are the 2^47 bytes that a process may have. */
#define SHIFT	13
#define SLOTS	(1UL << SHIFT)

static ptent_t **groups[SLOTS];

static ptent_t load(const ptent_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_RELAXED);
}

static ptent_t *table_at(uintptr_t addr)
{
	size_t n = addr >> BIG_PGSHIFT;
	ptent_t **group;

	if (n >> SHIFT >= SLOTS)
		return NULL;
	group = __atomic_load_n(&groups[n >> SHIFT], __ATOMIC_ACQUIRE);
	return group ? __atomic_load_n(&group[n & (SLOTS - 1)], __ATOMIC_ACQUIRE) : NULL;
}

ptent_t *entry_at(uintptr_t addr)
{
	ptent_t *table = table_at(addr);

	return table ? &table[PDX(0, addr)] : NULL;
}

static int add_table(uintptr_t addr)
{
	size_t n = addr >> BIG_PGSHIFT;
	ptent_t **group, *entry;
	int ret;

	if (n >> SHIFT >= SLOTS)
		return -EINVAL;
	group = groups[n >> SHIFT];
	if (!group) {
		group = dune_mmap(NULL, SLOTS * sizeof(*group), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if ((unsigned long)group >= -4095UL)
			return -ENOMEM;
		__atomic_store_n(&groups[n >> SHIFT], group, __ATOMIC_RELEASE);
	}
	ret = dune_vm_lookup(pgroot, (void *)BIG_PGADDR(addr), CREATE_NORMAL, &entry);
	if (ret)
		return ret;
	if (load(entry) & PTE_PS || PGOFF(entry))	/* a large page that the program made */
		return -EBUSY;
	__atomic_store_n(&group[n & (SLOTS - 1)], entry, __ATOMIC_RELEASE);
	return 0;
}

int entries_add(uintptr_t start, size_t bytes)
{
	int ret = 0;

	for (uintptr_t at = BIG_PGADDR(start); !ret && at < start + bytes; at += BIG_PGSIZE)
		if (!table_at(at))
			ret = add_table(at);
	return ret;
}

/* Where the table of @at ends, or @end. */
static uintptr_t piece_end(uintptr_t at, uintptr_t end)
{
	uintptr_t next = BIG_PGADDR(at) + BIG_PGSIZE;

	return next < end ? next : end;
}

static bool entry_close(ptent_t *entry)
{
	ptent_t e = load(entry);

	do {
		if (!(e & PTE_W))
			return false;
	} while (!__atomic_compare_exchange_n(entry, &e, (e & ~PTE_W) | CLOSED, true,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	return true;
}

bool entry_open(ptent_t *entry)
{
	ptent_t e = load(entry);

	do {
		if (!(e & CLOSED))
			return false;
	} while (!__atomic_compare_exchange_n(entry, &e, (e | PTE_W) & ~CLOSED, true,
					      __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	return true;
}

uint64_t entries_close(uintptr_t start, size_t bytes)
{
	uintptr_t end = start + bytes, next;
	uint64_t n = 0;

	for (uintptr_t at = start; at < end; at = next) {
		ptent_t *table = table_at(at);

		next = piece_end(at, end);
		for (; table && at < next; at += PGSIZE)
			n += entry_close(&table[PDX(0, at)]);
	}
	return n;
}

void entries_dirty(uintptr_t start, size_t bytes)
{
	for (uintptr_t at = PGADDR(start); at < start + bytes; at += PGSIZE) {
		ptent_t *entry = entry_at(at);

		if (entry && !(load(entry) & PTE_D))
			__atomic_fetch_or(entry, PTE_A | PTE_D, __ATOMIC_SEQ_CST);
	}
}

uint64_t entries_take(uintptr_t start, size_t bytes, void (*tell)(void *page))
{
	uintptr_t end = start + bytes, next;
	uint64_t n = 0;

	for (uintptr_t at = start; at < end; at = next) {
		ptent_t *table = table_at(at);

		next = piece_end(at, end);
		if (!table)
			continue;
		for (; at < next; at += PGSIZE) {
			ptent_t *entry = &table[PDX(0, at)];

			if (!(load(entry) & PTE_D))
				continue;
			__atomic_fetch_and(entry, ~PTE_D, __ATOMIC_SEQ_CST);
			n++;
			if (tell)
				tell((void *)at);
		}
	}
	return n;
}
