/* SPDX-License-Identifier: MIT */
/*
 * What the files about page tables share: layout.c, pgtable.c, page.c, tlb.c and
 * vm_*.c.
 *
 * The lock.  __dune_vm_lock() covers all tables of all roots and the allocator.
 * Under it nothing is touched but the pool, libdune's own data and the stack.  What
 * runs in exception entry (pgtable.c) goes without it.  A fork may come in the middle
 * of what another thread does under it, and the child just forgets the lock: so each
 * step leaves everything usable, at worst with a page that nobody will give back.
 *
 * Readers without the lock.  The tables above a page that is mapped stay, so who looks
 * for it finds them.  Who looks for what another thread is just unmapping may walk
 * through a table that is gone, and gets an answer that is as old; but it reads nothing
 * beyond the used part of the pool.
 */
#ifndef LIBDUNE_VM_H
#define LIBDUNE_VM_H

#include "local.h"

/* Nothing here is reached through a table of addresses. */
#pragma GCC visibility push(hidden)

#define PTRS		NPTENTRIES
#define PT_TABLE	(PTE_P | PTE_W | PTE_U | PTE_A)

#define SIZE_OF(level)	(1ULL << PDSHIFT(level))
#define NO_GPA		(~0ULL)

/* layout.c */
#define DUNE_MAX_WINDOWS	4096	/* what 42 guest-physical bits hold */
int __dune_layout_init(uint64_t stack, uint64_t pool, uint64_t pool_size);
void __dune_layout_forget(void);
long __dune_map_window(uint64_t va, uint64_t *gpa);
uint64_t __dune_gpa(uint64_t va);		/* NO_GPA: no window */
ptent_t *__dune_gpa_to_va(uint64_t gpa);	/* NULL: no window */

/* page.c: the pool, contiguous in both kinds of addresses */
struct dune_pool {
	uint64_t expect;	/* gpa + PT_TABLE: what an entry for its first page holds */
	uint64_t mask;		/* bits that are 0 in the offset of a table near its start */
	uint64_t va;
	uint64_t gpa;
	uint64_t size;
	uint64_t shift;		/* gpa - va */
};

extern struct dune_pool __dune_pool;
int __dune_pool_reserve(uint64_t fixed);
void __dune_pool_placed(void);
void __dune_pool_release(void);
struct page *__dune_page_take(unsigned int order);	/* locked */
void __dune_page_give(struct page *pg);			/* locked; the first one */
struct page *__dune_page_head(struct page *pg);
int __dune_page_level(struct page *pg);			/* 0, 1, 2: its size */
ptent_t *__dune_table_alloc(void);			/* locked; zeroed */
void __dune_table_free(ptent_t *table);			/* locked */
ptent_t *__dune_table_spare(bool locked);
void __dune_table_unused(ptent_t *table, bool locked);
void __dune_spares_fill(void);				/* locked */

/* tlb.c */
extern uint32_t __dune_vm_mutex;	/* bit 0: held; bit 1: somebody sleeps */
void __dune_vm_lock(void);
void __dune_vm_unlock(void);
uint64_t __dune_page_counts(uint64_t *used);
int __dune_vm_wake(void);
void __dune_flush(const ptent_t *root, uint64_t first, uint64_t last, ptent_t seen);
ptent_t *__dune_running_root(void);

/* pgtable.c: what libdune's own entries are */
extern struct page *__dune_clones;	/* the roots, by page.link; locked */
bool __dune_is_fixed_table(const ptent_t *table);
int __dune_fill(ptent_t *entry, int level, uint64_t va, bool locked);
int __dune_map_gib_in(ptent_t *root, uint64_t va, bool locked);

static inline bool __dune_vm_trylock(void)
{
	bool held;

	__asm__ volatile("lock btsl $0, %0" : "+m"(__dune_vm_mutex), "=@ccc"(held) : : "memory");
	return !held;
}

/* True: somebody sleeps, and wants __dune_vm_wake(). */
static inline bool __dune_vm_release(void)
{
	bool rest;

	__asm__ volatile("lock subl $1, %0" : "+m"(__dune_vm_mutex), "=@ccnz"(rest) : : "memory");
	return rest;
}

static inline bool in_guest(void)
{
	uint32_t cs;

	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
	return !(cs & 3);
}

/* In Dune mode: is @root, one of the pool, what this thread runs on? */
static inline bool runs_on(const ptent_t *root)
{
	return !((dune_read_cr3() - (uint64_t)root - __dune_pool.shift) >> PGSHIFT);
}

/* Is @root what this thread runs on, and no other in Dune mode? */
static inline bool flush_is_local(const ptent_t *root)
{
	return in_guest() && runs_on(root) &&
	       __atomic_load_n(&__dune_nr_guests, __ATOMIC_ACQUIRE) <= 1;
}

static inline ptent_t pt_load(const ptent_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static inline bool pt_swap(ptent_t *entry, ptent_t from, ptent_t to)
{
	return __atomic_compare_exchange_n(entry, &from, to, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static inline bool pt_is_table(ptent_t e, int level)
{
	return level && (e & (PTE_P | PTE_PS)) == PTE_P;
}

/* The table that @e points to; NULL: it lies in no window. */
static inline ptent_t *pt_table(ptent_t e)
{
	uint64_t offset = PTE_ADDR(e) - __dune_pool.gpa;

	if (offset < __dune_pool.size)
		return (ptent_t *)(__dune_pool.va + offset);
	return __dune_gpa_to_va(PTE_ADDR(e));
}

/* An entry for a table in the pool. */
static inline ptent_t pt_entry(const ptent_t *table)
{
	return ((uint64_t)table - __dune_pool.va) + __dune_pool.expect;
}

/* In one instruction, which compilers make two of. */
static inline uint64_t pt_read(uint64_t table, uint64_t offset)
{
	uint64_t e;

	__asm__ volatile("movq (%1,%2), %0" : "=r"(e) : "r"(table), "r"(offset) : "memory");
	return e;
}

static inline uint64_t pt_read_nth(uint64_t table, uint64_t n)
{
	uint64_t e;

	__asm__ volatile("movq (%1,%2,8), %0" : "=r"(e) : "r"(table), "r"(n) : "memory");
	return e;
}

/* Is @x no offset of a table?  The mask and the base stay in memory: one load less each. */
static inline bool pt_strange(uint64_t x)
{
	bool strange;

	__asm__("testq %2, %1" : "=@ccnz"(strange) : "r"(x), "m"(__dune_pool.mask));
	return strange;
}

static inline uint64_t pt_at(uint64_t offset)
{
	__asm__("addq %1, %0" : "+r"(offset) : "m"(__dune_pool.va) : "cc");
	return offset;
}

/*
 * The 4 KB entry for @va, an address of the lower half, if the way there is tables of
 * libdune's; else goto @other.  Reads nothing but the used part of the pool, whatever
 * the entries are.  Two functions of which every instruction counts are made of it.
 */
#define PT_SMALL(entry, top, addr, other) do {					\
	const uint64_t pt_expect = __dune_pool.expect;				\
	uint64_t pt_x = (addr) >> PDSHIFT(3);					\
										\
	if (__builtin_expect(pt_x >= PTRS / 2, 0))				\
		goto other;							\
	pt_x = pt_read_nth((uint64_t)(top), pt_x) - pt_expect;			\
	if (__builtin_expect(pt_strange(pt_x), 0))				\
		goto other;							\
	pt_x = pt_read(pt_at(pt_x), (addr) >> 27 & 0xff8) - pt_expect;		\
	if (__builtin_expect(pt_strange(pt_x), 0))				\
		goto other;							\
	pt_x = pt_read(pt_at(pt_x), (addr) >> 18 & 0xff8) - pt_expect;		\
	if (__builtin_expect(pt_strange(pt_x), 0))				\
		goto other;							\
	(entry) = (ptent_t *)(pt_at(pt_x) + ((addr) >> 9 & 0xff8));		\
} while (0)

/*
 * vm_walk.c.  An edit of a range: run() gets the entries of @level that it covers and,
 * unless @create wants exactly those, every larger entry that it covers whole.  All
 * with the lock held.
 */
struct vm_op {
	ptent_t *root;
	int level;
	bool create;		/* make missing tables */
	bool prune;		/* give run() tables that are covered, drop empty ones */
	int (*run)(struct vm_op *op, ptent_t *entry, unsigned int n, int level, uint64_t va);
	ptent_t set;		/* for run() */
	uint64_t pa;

	ptent_t seen;		/* all that entries held before: PTE_P asks for a flush */
	struct page *dead;	/* to be given back once nobody can use them */
	ptent_t *dead_tables;
};

int __dune_op_walk(struct vm_op *op, uint64_t first, uint64_t last);
void __dune_op_done(struct vm_op *op, uint64_t first, uint64_t last);
void __dune_drop(struct vm_op *op, ptent_t old, int level, uint64_t va);
struct page *__dune_owned_page(ptent_t e, uint64_t va);
int __dune_split_at(ptent_t *entry, int level, uint64_t va);
bool __dune_range_ok(uint64_t first, uint64_t last);

/* vm_edit.c */
void __dune_vm_edit_init(void);

#pragma GCC visibility pop

#endif /* LIBDUNE_VM_H */
