// SPDX-License-Identifier: MIT
/*
 * The guest's page tables: a linear map in units of 1 GiB windows.
 *
 * What may really be accessed is decided by the second stage, which mirrors
 * the mm; so one present entry per GiB is enough, and mmap(), munmap() and
 * mprotect() need no action here.
 *
 * Lean code: it also runs in trap handlers, on any number of threads, and may
 * be interrupted anywhere by a signal handler.  So there is no lock and no
 * allocator: each table has one possible place in the pool, two threads that
 * build the same table write the same values, and entries are published by
 * compare-and-exchange against 0, which never undoes what the program wrote.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "local.h"

#define DUNE_MAX_WINDOWS	4096	/* what 42 guest-physical bits hold */
#define PAGE		4096ULL
#define PTRS		512
#define PT_INDEX(level, va) ((va) >> (12 + 9 * (level)) & (PTRS - 1))
#define PT_ADDR(e)	((e) & 0x000ffffffffff000ULL)

/* Bits of an entry (SDM 4.5, APM 5.3). */
#define PT_P		(1ULL << 0)
#define PT_W		(1ULL << 1)
#define PT_U		(1ULL << 2)
#define PT_A		(1ULL << 5)
#define PT_D		(1ULL << 6)
#define PT_PS		(1ULL << 7)
#define PT_TABLE	(PT_P | PT_W | PT_U | PT_A)
#define PT_LEAF		(PT_TABLE | PT_D | PT_PS)

/*
 * The pool, in pages: the root, a PDPT for each of the 256 root entries that
 * cover USER_END, a PD for each window that can exist.  Memory is used only
 * for pages that are written.
 */
#define POOL_PDPT	1
#define POOL_PD		(POOL_PDPT + 256)

DUNE_EXPORT ptent_t *pgroot;
bool __dune_has_vsyscall;

/*
 * The windows in the order of their guest-physical addresses, for the child of a
 * fork.  One that is not noted yet is in no page-table entry either.
 */
#define NO_WINDOW	(~0ULL)

static uint64_t known[DUNE_MAX_WINDOWS];	/* hva + 1, so that 0 is none */
static uint32_t nr_known;

static uint64_t pool_size;
static uint64_t pool_gpa[2];	/* of the pool's first byte, if it lies in the ... */
static uint64_t pool_split;	/* ... window below, or at or above, this address */

static ptent_t *pool_page(uint64_t index)
{
	return pgroot + index * PTRS;
}

static uint64_t pool_to_gpa(const ptent_t *page)
{
	uint64_t va = (uint64_t)page;

	return pool_gpa[va >= pool_split] + (va - (uint64_t)pgroot);
}

/* The pool page at @gpa, NULL if it is none. */
static ptent_t *pool_from_gpa(uint64_t gpa)
{
	for (int half = 0; half < 2; half++) {
		uint64_t offset = gpa - pool_gpa[half];
		ptent_t *page = pgroot + offset / sizeof(ptent_t);

		if (offset < pool_size && pool_to_gpa(page) == gpa)
			return page;
	}
	return NULL;
}

/* Page directories in the pool.  More than USER_END has GiBs are no use. */
static uint64_t max_pds(void)
{
	uint64_t windows = 1ULL << (__dune_info.gpa_bits - GIB_SHIFT);

	if (__dune_info.features & DUNE_FEAT_1GB_PAGES)
		return 0;
	return windows < USER_END >> GIB_SHIFT ? windows : USER_END >> GIB_SHIFT;
}

static bool publish(ptent_t *entry, ptent_t value)
{
	ptent_t empty = 0;

	return __atomic_compare_exchange_n(entry, &empty, value, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

static ptent_t load(const ptent_t *entry)
{
	return __atomic_load_n(entry, __ATOMIC_ACQUIRE);
}

static void note_window(uint64_t index, uint64_t hva)
{
	uint32_t nr = __atomic_load_n(&nr_known, __ATOMIC_ACQUIRE);

	if (index >= DUNE_MAX_WINDOWS)
		return;
	__atomic_store_n(&known[index], hva + 1, __ATOMIC_RELEASE);
	while (nr <= index && !__atomic_compare_exchange_n(&nr_known, &nr, (uint32_t)index + 1,
							   false, __ATOMIC_ACQ_REL,
							   __ATOMIC_ACQUIRE))
		;
}

static long map_window(uint64_t va, uint64_t *gpa)
{
	struct dune_window win = { .hva = va };
	long ret = __dune_syscall3(SYS_ioctl, dune_fd, DUNE_MAP_WINDOW, &win);

	*gpa = win.gpa;
	if (!ret)
		note_window(win.gpa >> GIB_SHIFT, win.hva);
	return ret;
}

/* Give the VM behind @fd, which is new, the windows of the one before it. */
long __dune_windows_restore(int fd)
{
	uint32_t nr = __atomic_load_n(&nr_known, __ATOMIC_ACQUIRE);
	struct dune_windows win = { .nr = nr };
	uint64_t list[64];
	long ret, at;

	if (!nr)
		return 0;
	if (nr > sizeof(list) / sizeof(list[0])) {
		at = __dune_syscall6(SYS_mmap, 0, nr * 8L, PROT_READ | PROT_WRITE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (at < 0 && at > -4096)
			return at;
	} else {
		at = (long)list;
	}
	for (uint32_t i = 0; i < nr; i++) {
		uint64_t hva = __atomic_load_n(&known[i], __ATOMIC_ACQUIRE);

		((uint64_t *)at)[i] = hva ? hva - 1 : NO_WINDOW;
	}
	win.hvas = (uint64_t)at;
	ret = __dune_syscall3(SYS_ioctl, fd, DUNE_SET_WINDOWS, &win);
	if ((uint64_t)at != (uint64_t)list)
		__dune_own3(SYS_munmap, at, nr * 8L, 0);
	return ret;
}

/* The entry that maps the GiB at @gpa; 0: the pool has no table for it. */
static ptent_t gib_entry(uint64_t gpa)
{
	ptent_t *pd;

	if (__dune_info.features & DUNE_FEAT_1GB_PAGES)
		return gpa | PT_LEAF;
	if (gpa >> GIB_SHIFT >= max_pds())
		return 0;

	pd = pool_page(POOL_PD + (gpa >> GIB_SHIFT));
	for (uint64_t i = 0; i < PTRS; i++)
		publish(&pd[i], (gpa + (i << 21)) | PT_LEAF);
	return pool_to_gpa(pd) | PT_TABLE;
}

/* Is there an entry for the GiB around @va? */
bool __dune_gib_mapped(uint64_t va)
{
	uint64_t top = PT_INDEX(3, va);

	return va < USER_END && load(&pgroot[top]) & PT_P &&
	       load(&pool_page(POOL_PDPT + top)[PT_INDEX(2, va)]) & PT_P;
}

/*
 * Make the GiB around @va visible to the guest.  0, also if it was already;
 * -EFAULT no address of a process; -ENOSPC no window left; what the module says.
 */
int __dune_map_gib(uint64_t va)
{
	uint64_t top = PT_INDEX(3, va), gpa;
	ptent_t *pdpt, entry;
	long ret;

	if (va >= USER_END)
		return -EFAULT;
	if (__dune_gib_mapped(va))
		return 0;
	ret = map_window(va, &gpa);
	if (ret)
		return (int)ret;

	entry = gib_entry(gpa);
	if (!entry)
		return -ENOSPC;
	pdpt = pool_page(POOL_PDPT + top);
	publish(&pdpt[PT_INDEX(2, va)], entry);
	publish(&pgroot[top], pool_to_gpa(pdpt) | PT_TABLE);
	return 0;
}

int __dune_map_range(uint64_t va, uint64_t len)
{
	uint64_t end = va + len;
	int ret = 0;

	for (va &= ~(GIB - 1); va < end && !ret; va += GIB)
		ret = __dune_map_gib(va);
	return ret;
}

/*
 * Does the walk for @va end in a present leaf?  Tables that the program added
 * below the GiB level are not followed: their faults are the program's.
 */
bool __dune_va_present(uint64_t va)
{
	ptent_t e, *pd;

	if (!__dune_gib_mapped(va))
		return false;
	e = load(&pool_page(POOL_PDPT + PT_INDEX(3, va))[PT_INDEX(2, va)]);
	if (e & PT_PS)
		return true;
	pd = pool_from_gpa(PT_ADDR(e));
	if (!pd)
		return false;
	e = load(&pd[PT_INDEX(1, va)]);
	return (e & (PT_P | PT_PS)) == (PT_P | PT_PS);
}

uint64_t __dune_cr3(void)
{
	return pool_to_gpa(pgroot);
}

/*
 * A mapping with more GiBs than this gets its windows as it is touched: there
 * are fewer windows than a mapping without reserve can have GiBs.
 */
#define EAGER_GIBS	16

/* A bit for each GiB of such a mapping. */
static uint64_t held[(USER_END >> GIB_SHIFT) / 64 + 1];

bool __dune_gib_held(uint64_t va)
{
	uint64_t gib = va >> GIB_SHIFT;

	return va < USER_END && held[gib / 64] >> gib % 64 & 1;
}

/* One mapping of /proc/self/maps; the vsyscall page lies above USER_END. */
static int map_existing(uint64_t begin, uint64_t end)
{
	if (begin >= USER_END) {
		__dune_has_vsyscall = true;
		return 0;
	}
	if (end - begin <= EAGER_GIBS * GIB)
		return __dune_map_range(begin, end - begin);
	for (uint64_t gib = begin >> GIB_SHIFT; gib <= (end - 1) >> GIB_SHIFT; gib++)
		held[gib / 64] |= 1ULL << gib % 64;
	return 0;
}

static int pool_reserve(void)
{
	long ret;

	pool_size = (POOL_PD + max_pds()) * PAGE;
	ret = __dune_syscall6(SYS_mmap, 0, (long)pool_size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	pgroot = (ptent_t *)ret;
	return 0;
}

/* Build the tables for what is mapped now. */
int __dune_pgtable_init(void)
{
	uint64_t first, last, gpa;
	long ret;

	ret = pool_reserve();
	if (ret)
		return (int)ret;

	/* The pool is smaller than a window: it lies in one or in two. */
	first = (uint64_t)pgroot;
	last = first + pool_size - 1;
	ret = map_window(first, &gpa);
	if (ret)
		return (int)ret;
	pool_gpa[0] = gpa + (first & (GIB - 1));
	pool_split = USER_END;
	if (first >> GIB_SHIFT != last >> GIB_SHIFT) {
		pool_split = last & ~(GIB - 1);
		ret = map_window(last, &gpa);
		if (ret)
			return (int)ret;
		pool_gpa[1] = gpa - (pool_split - first);
	}
	ret = __dune_map_range(first, pool_size);
	return ret ? (int)ret : __dune_for_each_map(map_existing);
}
