// SPDX-License-Identifier: MIT
/*
 * Guest-physical addresses: which window shows which GiB of the process.
 *
 * dune_init() chooses the first windows (see mmu.h); later ones come in the order in
 * which they are asked for.  Each is noted here for good, for translation both ways
 * and for the child of a fork, whose VM gets the same.
 *
 * Lean code without a lock: it also runs in exception entry.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "vm.h"

/*
 * The pool ends at 12 GiB.  The run begins at 16, where the first versions of Dune had
 * it: programs of that time know the number (0x400000000).
 */
#define IDENTITY_GIBS	16ULL
#define RUN_GIBS	(GPA_MAP_SIZE >> GIB_SHIFT)

DUNE_EXPORT uintptr_t phys_limit, mmap_base, stack_base;

/* By window: the GiB's address + 1, so that 0 is none.  A window is noted before it is used. */
static uint64_t known[DUNE_MAX_WINDOWS];
static uint32_t nr_known;

/* By GiB: the window + 1. */
static uint16_t window_of[USER_END >> GIB_SHIFT];

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
	__atomic_store_n(&window_of[hva >> GIB_SHIFT], (uint16_t)(index + 1), __ATOMIC_RELEASE);
}

uint64_t __dune_gpa(uint64_t va)
{
	uint64_t window;

	if (va >= USER_END)
		return NO_GPA;
	window = __atomic_load_n(&window_of[va >> GIB_SHIFT], __ATOMIC_ACQUIRE);
	return window ? (window - 1) << GIB_SHIFT | (va & (GIB - 1)) : NO_GPA;
}

ptent_t *__dune_gpa_to_va(uint64_t gpa)
{
	uint64_t index = gpa >> GIB_SHIFT, hva;

	if (index >= __atomic_load_n(&nr_known, __ATOMIC_ACQUIRE))
		return NULL;
	hva = __atomic_load_n(&known[index], __ATOMIC_ACQUIRE);
	return hva ? (ptent_t *)(hva - 1 + (gpa & (GIB - 1))) : NULL;
}

/* The guest-physical address of the GiB around @va, which gets a window if it has none. */
long __dune_map_window(uint64_t va, uint64_t *gpa)
{
	struct dune_window win = { .hva = va & ~(GIB - 1) };
	long ret;

	*gpa = __dune_gpa(win.hva);
	if (*gpa != NO_GPA)
		return 0;
	ret = __dune_syscall3(SYS_ioctl, dune_fd, DUNE_MAP_WINDOW, &win);
	*gpa = win.gpa;
	if (!ret)
		note_window(win.gpa >> GIB_SHIFT, win.hva);
	return ret;
}

/* Give the VM behind @fd, which is new, the windows that are noted. */
long __dune_windows_restore(int fd)
{
	uint32_t nr = __atomic_load_n(&nr_known, __ATOMIC_ACQUIRE);
	struct dune_windows win = { .nr = nr };
	uint64_t list[128];
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

		((uint64_t *)at)[i] = hva ? hva - 1 : DUNE_NO_WINDOW;
	}
	win.hvas = (uint64_t)at;
	ret = __dune_syscall3(SYS_ioctl, fd, DUNE_SET_WINDOWS, &win);
	if ((uint64_t)at != (uint64_t)list)
		__dune_own3(SYS_munmap, at, nr * 8L, 0);
	return ret;
}

void __dune_layout_forget(void)
{
	for (uint32_t i = 0; i < nr_known; i++) {
		if (known[i])
			window_of[(known[i] - 1) >> GIB_SHIFT] = 0;
		known[i] = 0;
	}
	nr_known = 0;
}

/* The end of the highest mapping below the one that holds the stack. */
static uint64_t stack_at, below_stack;

static int find_mmap_top(const struct dune_procmap_entry *e, void *arg)
{
	(void)arg;
	if (e->end > stack_at)
		return 1;
	if (e->begin < stack_at)
		below_stack = e->end;
	return 0;
}

static uint64_t gib_up(uint64_t va)
{
	return (va + GIB - 1) & ~(GIB - 1);
}

/* So many GiBs below the top of the mmap region; all windows may be fewer. */
static uint64_t run_length(void)
{
	uint64_t windows = 1ULL << (__dune_info.gpa_bits - GIB_SHIFT);

	return windows >= 2 * (IDENTITY_GIBS + RUN_GIBS) ? RUN_GIBS : windows / 4;
}

/* @index shows @gib, unless another window does or the pool is to have one of its own. */
static void lay(uint64_t index, uint64_t gib, uint64_t pool, uint64_t pool_size)
{
	uint64_t va = gib << GIB_SHIFT;

	if (va < USER_END && __dune_gpa(va) == NO_GPA &&
	    (va + GIB <= pool || va >= pool + pool_size))
		note_window(index, va);
}

/*
 * The first windows of the VM, which has none.  @stack: an address of the initial
 * stack.
 */
int __dune_layout_init(uint64_t stack, uint64_t pool, uint64_t pool_size)
{
	uint64_t run = run_length(), at = IDENTITY_GIBS, low = IDENTITY_GIBS << GIB_SHIFT;
	int ret;

	stack_at = stack;
	ret = __dune_for_each_map(find_mmap_top, NULL);
	if (ret < 0)
		return ret;
	stack_base = gib_up(stack) - GIB;
	mmap_base = gib_up(below_stack);
	mmap_base = mmap_base > low + (run << GIB_SHIFT) ? mmap_base - (run << GIB_SHIFT) : low;

	for (uint64_t i = 0; i < IDENTITY_GIBS; i++)
		note_window(i, i << GIB_SHIFT);
	phys_limit = (at + run + 1) << GIB_SHIFT;
	lay(at + run, stack_base >> GIB_SHIFT, pool, pool_size);
	for (uint64_t i = 0; i < run; i++)
		lay(at + i, (mmap_base >> GIB_SHIFT) + i, pool, pool_size);
	at += run + 1;
	if (__dune_gpa(pool) == NO_GPA)
		for (uint64_t va = pool & ~(GIB - 1); va < pool + pool_size; va += GIB)
			note_window(at++, va);
	return (int)__dune_windows_restore(dune_fd);
}

/* ---- for programs ----------------------------------------------------- */

DUNE_EXPORT uintptr_t dune_va_to_pa(void *va)
{
	uint64_t addr = (uint64_t)va, gpa;

	if (addr >= USER_END || __dune_map_window(addr, &gpa))
		return NO_GPA;
	return gpa | (addr & (GIB - 1));
}

DUNE_EXPORT uintptr_t dune_mmap_addr_to_pa(void *va)
{
	return dune_va_to_pa(va);
}

DUNE_EXPORT uintptr_t dune_stack_addr_to_pa(void *va)
{
	return dune_va_to_pa(va);
}

DUNE_EXPORT void *dune_pa_to_va(uintptr_t pa)
{
	return __dune_gpa_to_va(pa);
}
