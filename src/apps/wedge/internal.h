/* SPDX-License-Identifier: MIT */
/*
 * One slot of the root (512 GiB) is libwedge's, the arena.  By GiB:
 *
 *	0		page tables, copies and cells' books: ring 0's, in every root
 *	1 .. 4		tags, each in units of 2 MiB: mapped where a context names them
 *	8 .. 23		cells of 64 MiB, each mapped in its own root alone
 *
 * A cell is what a compartment runs in.  By MiB:
 *
 *	0		stack, growing down from 1
 *	1		thread-local storage
 *	2 .. 3		ring 0's: the copies of arguments
 *	4 .. 63		heap
 *
 * Its root has ring 0's view of the process, less its rights for ring 3.  What ring 3 may use
 * of the slots outside of the arena (text, read-only data, the libraries' variables) is in
 * tables that all cells share, the model; a cell that writes to one of those pages gets its
 * own tables down to there.  No table has entries that libdune fills in later (PTE_LAZY_*):
 * it would give them to ring 3, too.
 *
 * Ring 0 of a thread whose sthread runs is on the cell's root, where libc's variables are
 * the cell's: it calls nothing of libc before it is back on pgroot.
 */
#ifndef WEDGE_INTERNAL_H
#define WEDGE_INTERNAL_H

#include <pthread.h>

#include <libdune/dune.h>
#include <libdune/cpu-x86.h>

#include "wedge.h"

#define MIB		(1UL << 20)

#define TAG_GIB		1
#define TAG_GIBS	4
#define CELL_GIB	8
#define CELL_SIZE	(64 * MIB)
#define CELLS_MAX	256
#define CELLS_PER_GIB	(GIANT_PGSIZE / CELL_SIZE)
#define ARENA_SIZE	(24 * GIANT_PGSIZE)

#define STACK_LOW	(64UL << 10)	/* nothing below, ever */
#define STACK_TOP	MIB
#define STACK_FIRST	8		/* pages mapped at first */
#define TLS_AT		MIB
#define TLS_MAX		(64UL << 10)
#define BOUNCE_AT	(2 * MIB)
#define BOUNCE_SIZE	(64UL << 10)
#define HEAP_AT		(4 * MIB)
#define HEAP_FIRST_2M	2

/* Ring 3's own calls, outside of Linux' numbers. */
#define NR_END		0x77650000
#define NR_GATE		0x77650001
#define NR_SMALLOC	0x77650002
#define NR_SFREE	0x77650003

#define ENTRY_RING0	(PTE_P | PTE_W | PTE_A | PTE_D)
#define ENTRY_TABLE	(PTE_P | PTE_W | PTE_U | PTE_A)

/* What an entry names is of the model, or of the cell: a table, or a copy of a page. */
#define OF_MODEL	PTE_USR1
#define OWN		PTE_USR2

/* Where the cells' books are, in GiB 0. */
#define BOOKS_SIZE	(4 * PGSIZE)
#define BOOKS_AT	(GIANT_PGSIZE - CELLS_MAX * BOOKS_SIZE)

/* Copies of pages and tables of its own that a cell can have, and how many it keeps. */
#define OWNED_MAX	500
#define OWNED_KEPT	150
#define OWN_SLOTS	8

struct cell {
	ptent_t *root, *l2, *l1, *l0;	/* l2: of the arena; l1, l0: of the cell */
	ptent_t *tags[TAG_GIBS];	/* level 1; NULL: not needed yet */
	uint64_t cr3;
	uintptr_t base;
	uintptr_t tp;			/* its thread pointer */
	uintptr_t stack_low;		/* mapped from there on */
	uintptr_t heap_end;
	unsigned int model;		/* the model's generation that the root has */
	unsigned int owned, slots;
	struct {
		unsigned int index;
		ptent_t *l2;
	} slot[OWN_SLOTS];
	bool given;			/* pages that are not copies: for this context alone */
	void *own[OWNED_MAX];
	unsigned int copies;
	struct {
		ptent_t *entry;
		const void *from;
	} copy[OWNED_MAX];
	struct cell *next;		/* free */
	struct learned *learning;
	struct sthread_sc sc;
	struct sthread_result result;
	struct dune_tf start;		/* how ring 3 begins, but for the function */
};

_Static_assert(sizeof(struct cell) <= BOOKS_SIZE, "books of a cell");

struct wedge_tag {
	uintptr_t base;
	size_t size;
	ptent_t **l0;			/* a table for each 2 MiB */
	unsigned int users;
	struct piece *pieces;		/* by address */
	struct wedge_tag *next;
};

struct wedge_gate {
	struct sthread_sc sc;
	long (*fn)(void *trusted, void *arg);
	void *trusted;
	struct cell *cell;		/* of a recycled one */
	unsigned int busy, flags, lock;
	bool failed;
	struct sthread_result failure;
};

struct sthread {
	struct cell *cell;
	void *(*fn)(void *arg);
	void *arg;
	pthread_t thread;
	struct sthread_sc *sc;
	unsigned int ready;		/* futex: 1 began, 2 failed to */
	int error;
	struct sthread_result result;
};

extern uintptr_t arena;
extern bool wedge_ready;

static inline ptent_t entry_of(const void *page)
{
	return (ptent_t)dune_va_to_pa((void *)page);
}

static inline ptent_t *table_of(ptent_t e)
{
	return dune_pa_to_va(PTE_ADDR(e));
}

static inline void copy_words(void *to, const void *from, size_t bytes)
{
	size_t n = bytes / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void copy_bytes(void *to, const void *from, size_t n)
{
	asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void zero_words(void *to, size_t bytes)
{
	size_t n = bytes / 8;

	asm volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(0UL) : "memory");
}

static inline void lock(unsigned int *l)
{
	while (__atomic_exchange_n(l, 1, __ATOMIC_ACQUIRE))
		while (__atomic_load_n(l, __ATOMIC_RELAXED))
			asm volatile("pause");
}

static inline void unlock(unsigned int *l)
{
	__atomic_store_n(l, 0, __ATOMIC_RELEASE);
}

static inline unsigned int ring(void)
{
	unsigned int cs;

	asm("mov %%cs, %0" : "=r"(cs));
	return cs & 3;
}

/* arena.c */
int arena_init(void);
void *page_get(void);			/* zeroed, ring 0's; NULL: no memory */
void *page_get_as_is(void);		/* the same, for who writes to all of it */
void page_put(void *page);
struct wedge_tag *tag_at(uintptr_t addr);
bool tag_hold(struct wedge_tag *tag);	/* one user more; false: no such tag */
void tag_drop(struct wedge_tag *tag);
void tags_each(void (*fn)(int out, const struct sthread_sc *sc, const struct wedge_tag *tag),
	       int out, const struct sthread_sc *sc);
bool piece_free(struct wedge_tag *tag, uintptr_t addr);	/* false: it is none */

/* model.c: what all cells see */
int model_init(void);
unsigned int model_synced(void);	/* has what the calling thread needs; its generation */
void table_of_ring0(ptent_t *table, ptent_t e, size_t step);	/* what @e maps, by @step */
extern ptent_t *model_root;
/* The page that ring 3 sees instead of the libraries' one at @va; NULL: none. */
const void *model_copy_of(uintptr_t va);

/* objects.c: what there is in the process */
struct object_range {
	uintptr_t begin, end;
	bool exec, copy;		/* copy: a private copy; else the memory itself, read-only */
	bool holes;			/* not all of its pages can be read */
};
int objects_find(struct object_range *ranges, unsigned int max, unsigned int *nr);
int tls_find(void);
extern size_t tls_size;			/* whole pages */
uintptr_t tls_put(uintptr_t at);	/* a thread's TLS at @at; its thread pointer */
void tls_guard(uintptr_t tp);		/* another canary */

/* cell.c */
int cell_get(const struct sthread_sc *sc, struct cell **cell);
void cell_put(struct cell *cell);
void cell_wipe(struct cell *cell);	/* as if it had never run */
void cell_sync(struct cell *cell);
bool cell_resolve(struct cell *cell, uintptr_t addr, bool write);
bool cell_may(struct cell *cell, uintptr_t addr, size_t len, bool write);
bool cell_give(struct cell *cell, uintptr_t addr, bool write);
void cell_take(struct cell *cell, uintptr_t addr);
uintptr_t cell_heap_grow(struct cell *cell, size_t len);

/* run.c */
extern __thread struct cell *wedge_current;
int run(struct cell *cell, uintptr_t fn, uint64_t a, uint64_t b);	/* -EAGAIN: too deep */
void run_prepare(struct cell *cell);
void run_end(enum sthread_end end, uint64_t value) __attribute__((noreturn));
int run_handlers(void);
int result_error(const struct sthread_result *r);

/* calls.c */
void calls_handle(struct dune_tf *tf);
bool calls_known(unsigned int nr);

/* gate.c */
long gate_do(struct wedge_gate *gate, void *arg);

/* learn.c: true: it is to be allowed, and is noted */
bool learn_page(struct cell *cell, uintptr_t addr, bool write);
bool learn_call(struct cell *cell, unsigned long nr, bool allowed);
bool learn_fd(struct cell *cell, int fd, unsigned int right, bool allowed);

/* context.c */
int sc_hold(const struct sthread_sc *sc);
void sc_drop(const struct sthread_sc *sc);
bool sc_has_gate(const struct sthread_sc *sc, const struct wedge_gate *gate);

#endif /* WEDGE_INTERNAL_H */
