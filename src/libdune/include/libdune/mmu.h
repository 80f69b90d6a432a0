/* SPDX-License-Identifier: MIT */
/*
 * Page tables in Dune mode.
 *
 * Addresses.  A guest-physical address names process memory: each GiB of virtual
 * addresses has a window there.  dune_init() lays out
 *
 *	guest-physical		virtual
 *	0 .. 16 GiB		the same: programs linked low, and the page pool
 *	then 63 GiB		from mmap_base on: where mmap() puts things
 *	then 1 GiB		from stack_base on: the stack
 *	then 			the pool, if it lies elsewhere
 *	behind phys_limit	GiBs elsewhere, as they are touched
 *
 * (less than 63 GiB where the CPU has few guest-physical bits).  dune_va_to_pa()
 * knows them all; the child of a fork has the layout of its parent.
 *
 * Linear map.  pgroot maps every GiB of process memory at its own address, by
 * entries of 1 GiB or 2 MiB that are marked PTE_LINEAR, and those functions that
 * want a smaller one split them.  With dune_init(true) the entries allow all to
 * ring 0 and ring 3, and a GiB gets its entry when it is touched or edited (see
 * PTE_LAZY_GIB).  With dune_init(false) they are for ring 0 alone, except the pages
 * of the vDSO, and there are entries for what was mapped at dune_init().
 *
 * Process memory is served by Linux whatever the tables say: an access that mmap()
 * and mprotect() do not allow is a page fault too.  Mappings of devices (VM_PFNMAP)
 * keep the memory type that Linux gave them.
 *
 * References.  An entry for a page of the pool holds a reference to it, except where
 * the pool is mapped at its own address.  An entry that the program overwrites by
 * hand is not known to have held one.
 *
 * Locking.  All dune_vm_*() functions that change tables take one lock, for all
 * roots, and return with the change visible to all threads: what other TLBs may
 * hold is flushed there before.  dune_vm_lookup() takes it only if it has to make or
 * split a table.  So they may be called by any thread and from exception handlers,
 * but not by a signal handler that may have interrupted one of them.  Entries may be
 * read and written by hand at any time with single 64-bit accesses (the CPU sets A
 * and D meanwhile, so prefer atomic operations); flushing is then the caller's.  A
 * fork() in the middle of another thread's call leaves the child with tables in
 * which that call is done in part.
 *
 * Errors are negative errno values.  In Dune mode these functions want ring 0.
 */
#ifndef LIBDUNE_MMU_H
#define LIBDUNE_MMU_H

#include "mmu-x86.h"
#include "page.h"
#include "tlb.h"

#ifdef __cplusplus
extern "C" {
#endif

struct dune_tf;

/* A page-table entry. */
typedef uint64_t ptent_t;

#define GPA_STACK_SIZE	(1UL << 30)
#define GPA_MAP_SIZE	(63UL << 30)

#define VA_START	((void *)0)
#define VA_END		((void *)-1)

/*
 * The root of the page tables that all threads in Dune mode start with, valid after
 * dune_init().  Owned by libdune: never free it.
 */
extern ptent_t *pgroot;

/* The layout above, constant after dune_init(). */
extern uintptr_t phys_limit, mmap_base, stack_base;

/**
 * dune_va_to_pa - the guest-physical address of process memory at @va
 *
 * By the layout, not by page tables; @va need not be mapped.  A GiB without a window
 * gets one.  Any thread may call it; async-signal-safe.
 * Return: (uintptr_t)-1: no address of a process, or no window left.
 */
uintptr_t dune_va_to_pa(void *va);

/* The same for an address between mmap_base and stack_base, and above. */
uintptr_t dune_mmap_addr_to_pa(void *va);
uintptr_t dune_stack_addr_to_pa(void *va);

/**
 * dune_pa_to_va - the inverse: which memory a guest-physical address names
 *
 * Return: NULL if it lies in no window (and for 0).
 */
void *dune_pa_to_va(uintptr_t pa);

/* Rights and kinds of an entry. */
#define PERM_NONE	0x0000		/* not present; the address stays */
#define PERM_R		0x0001
#define PERM_W		0x0002		/* with PERM_R only */
#define PERM_X		0x0004
#define PERM_U		0x0008		/* ring 3 may, too */
#define PERM_UC		0x0010		/* uncached */
#define PERM_COW	0x0020		/* PTE_COW */
#define PERM_BIG	0x0100		/* entries of 2 MB */
#define PERM_BIG_1GB	0x0200		/* entries of 1 GB */
#define PERM_USR1	0x1000		/* PTE_USR1 */
#define PERM_USR2	0x2000
#define PERM_USR3	0x4000		/* the original's 0x3000 was USR1 and USR2 at once */

#define PERM_SCODE	(PERM_R | PERM_X)
#define PERM_STEXT	(PERM_R | PERM_W)
#define PERM_SSTACK	PERM_STEXT
#define PERM_UCODE	(PERM_R | PERM_U | PERM_X)
#define PERM_UTEXT	(PERM_R | PERM_U | PERM_W)
#define PERM_USTACK	PERM_UTEXT

/* What dune_vm_lookup() may make. */
enum {
	CREATE_NONE = 0,	/* nothing */
	CREATE_NORMAL = 1,	/* tables down to 4 KB entries */
	CREATE_BIG = 2,		/* down to 2 MB entries */
	CREATE_BIG_1GB = 3,	/* down to 1 GB entries */
};

/**
 * dune_vm_map_phys - map guest-physical memory
 * @root: the tables; pgroot or a clone
 * @va: where; rounded down to the size of an entry
 * @len: bytes; whole entries are mapped
 * @pa: what; must be aligned as @va is
 * @perm: PERM_*
 *
 * Replaces what is mapped there.  Nothing else checks @pa: an access beyond the
 * windows ends the process with a message.
 *
 * Return: 0; -EINVAL a range that wraps or is not canonical, W without R, both
 * sizes, @pa not aligned or beyond the CPU's width, 1 GB without DUNE_FEAT_1GB_PAGES,
 * a free page of the pool; -ENOMEM: what was mapped until then stays.
 */
int dune_vm_map_phys(ptent_t *root, void *va, size_t len, void *pa, int perm);

/**
 * dune_vm_map_pages - map new pages of the pool, zeroed
 *
 * @va is rounded down and the end up to whole pages: @len 1 is one page.  PERM_BIG
 * and PERM_BIG_1GB take larger ones.  Replaces what is mapped there.
 *
 * Return: as dune_vm_map_phys().
 */
int dune_vm_map_pages(ptent_t *root, void *va, size_t len, int perm);

/**
 * dune_vm_mprotect - change the rights of what is mapped
 *
 * Every page that [@va, @va + @len) touches.  Entries that are there get @perm in
 * place of their rights, UC, COW and USR bits; A and D, the address and the size
 * stay, and an absent entry stays absent.  A larger entry that is covered in part is
 * split.  PERM_NONE makes the entry not present, and another mprotect brings it back.
 *
 * Return: 0; -EINVAL a range that wraps or is not canonical, W without R; -ENOMEM.
 */
int dune_vm_mprotect(ptent_t *root, void *va, size_t len, int perm);

/**
 * dune_vm_unmap - take away every page that [@va, @va + @len) touches
 *
 * Pages of the pool lose a reference, after all TLBs were flushed; so do tables that
 * hold nothing any more.  Of a larger entry that is covered in part the rest stays; if
 * there is no memory to split it, the process ends with a message.
 */
void dune_vm_unmap(ptent_t *root, void *va, size_t len);

/**
 * dune_vm_lookup - find the entry for @va
 * @create: CREATE_*
 * @pte: where the answer goes
 *
 * CREATE_NONE and CREATE_NORMAL give the 4 KB entry, which may be empty, splitting
 * entries of libdune's; an entry of 2 MB or 1 GB that the program made is given
 * itself.  CREATE_BIG and CREATE_BIG_1GB give the entry of level 1 and 2, which may
 * be one that points to a table.  The entry stays where it is until the range is
 * unmapped or the tables freed; an empty one may go, with its table, when what is near
 * it is unmapped.
 *
 * Return: 0; -ENOENT no table, and CREATE_NONE; -EINVAL; -ENOMEM; -EFAULT a table
 * that lies outside the process.
 */
int dune_vm_lookup(ptent_t *root, void *va, int create, ptent_t **pte);

/* @va: of the entry's first byte.  Not 0 ends the walk. */
typedef int (*page_walk_cb)(const void *arg, ptent_t *ptep, void *va);

/**
 * dune_vm_page_walk - call @cb for each entry that is not empty
 * @end: the last byte, inclusive
 *
 * In the order of addresses.  Entries of libdune's are split to 4 KB, those of the
 * program's given as they are, and untouched GiBs are passed over.  No lock is held
 * in @cb, which may change the entry and call what it likes, as long as nobody takes
 * away the tables of the range meanwhile.  Flushing is the caller's.
 *
 * Return: 0; what @cb returned; -EINVAL, -ENOMEM, -EFAULT.
 */
int dune_vm_page_walk(ptent_t *root, void *start, void *end, page_walk_cb cb, const void *arg);

/**
 * __dune_vm_page_walk - the same from a table of any level
 * @dir: a table of @level: 3 a root, 0 one of 4 KB entries
 * @create: not CREATE_NONE: missing tables are made, down to the entries that
 *	dune_vm_lookup() would give, and @cb sees the empty ones too
 */
int __dune_vm_page_walk(ptent_t *dir, void *start, void *end, page_walk_cb cb, const void *arg,
			int level, int create);

/**
 * dune_vm_insert_page - map a page of the pool
 *
 * With the size that it was allocated with; takes a reference.
 * Return: as dune_vm_map_phys().
 */
int dune_vm_insert_page(ptent_t *root, void *va, struct page *pg, int perm);

/**
 * dune_vm_lookup_page - the page of the pool that is mapped at @va
 *
 * Takes no reference.  Return: NULL if there is none.
 */
struct page *dune_vm_lookup_page(ptent_t *root, void *va);

/**
 * dune_vm_clone - a copy of the tables
 *
 * What they map is shared, each entry with a reference of its own.  The root is a
 * page of the pool: load_cr3(dune_va_to_pa(root)).  Threads may run on it at once.
 *
 * Return: NULL: -ENOMEM.
 */
ptent_t *dune_vm_clone(ptent_t *root);

/**
 * dune_vm_free - give a clone back, with its tables and references
 *
 * No thread may run on it.  pgroot stays: calling it with that does nothing.
 */
void dune_vm_free(ptent_t *root);

/**
 * dune_vm_default_pgflt_handler - copy on write
 *
 * For dune_register_pgflt_handler().  A write to a present entry of the running
 * tables with PTE_COW: gets a page of its own from the pool, or keeps its page if
 * nobody else has it.  Any other fault raises the signal that it would have raised
 * without a handler.
 */
void dune_vm_default_pgflt_handler(uintptr_t addr, uint64_t fec, struct dune_tf *tf);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_MMU_H */
