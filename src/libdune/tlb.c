// SPDX-License-Identifier: MIT
/*
 * The lock of the page tables, and telling all TLBs about a change.
 *
 * Lean code.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "vm.h"

#define MAX_INVLPG	32	/* of more pages, all entries go */

uint32_t __dune_vm_mutex;

DUNE_EXPORT uint64_t dune_cr3_bits = ~0ULL;

void __dune_vm_lock(void)
{
	while (__builtin_expect(!__dune_vm_trylock(), 0)) {
		uint32_t state = __atomic_or_fetch(&__dune_vm_mutex, 2, __ATOMIC_RELAXED);

		if (state & 1)
			__dune_syscall4(SYS_futex, &__dune_vm_mutex, FUTEX_WAIT_PRIVATE, state, 0);
	}
}

void __dune_vm_unlock(void)
{
	if (__builtin_expect(__dune_vm_release(), 0))
		__dune_vm_wake();
}

/* All that sleep: who comes first takes the lock, the others say again that they wait. */
int __dune_vm_wake(void)
{
	uint32_t state = __atomic_load_n(&__dune_vm_mutex, __ATOMIC_RELAXED);

	if (state == ~0U)	/* forgotten by __dune_vm_forked() meanwhile */
		__dune_vm_forked();
	else
		__atomic_and_fetch(&__dune_vm_mutex, ~2U, __ATOMIC_RELAXED);
	__dune_syscall3(SYS_futex, &__dune_vm_mutex, FUTEX_WAKE_PRIVATE, INT_MAX);
	return 0;
}

/* In the copy of a process: whoever held it was not copied, or is past caring. */
void __dune_vm_forked(void)
{
	__atomic_store_n(&__dune_vm_mutex, 0, __ATOMIC_RELEASE);
}

static unsigned long read_cr4(void)
{
	unsigned long cr4;

	__asm__ volatile("mov %%cr4, %0" : "=r"(cr4));
	return cr4;
}

static void write_cr4(unsigned long cr4)
{
	__asm__ volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

/* In Dune mode: the tables that this thread runs on; NULL: they lie in no window. */
ptent_t *__dune_running_root(void)
{
	return pt_table(dune_read_cr3());
}

/* Global pages too, of all PCIDs (SDM 4.10.4.1, APM 5.5.3). */
static void flush_everything(void)
{
	unsigned long cr4 = read_cr4();

	if (__dune_info.features & DUNE_FEAT_INVPCID) {
		dune_invpcid(INVPCID_ALL_GLOBAL, 0, 0);
	} else {
		write_cr4(cr4 ^ CR4_PGE);
		write_cr4(cr4);
	}
}

static void flush_pages(uint64_t first, uint64_t last, bool global)
{
	if (last - first >= MAX_INVLPG * PGSIZE) {
		if (global)
			flush_everything();
		else
			dune_flush_tlb();
		return;
	}
	for (uint64_t va = first & ~PGMASK; va - 1 < last; va += PGSIZE) {
		dune_flush_tlb_one(va);
		if (va >= ~PGMASK)
			break;
	}
}

static long flush_others(bool inside)
{
	if (__atomic_load_n(&__dune_nr_guests, __ATOMIC_ACQUIRE) <= inside)
		return 0;
	return __dune_syscall3(SYS_ioctl, dune_fd, DUNE_FLUSH_TLB, 0);
}

/*
 * Entries of @root for [@first, @last] have changed; @seen: what they held.  Other
 * tables than the running ones can be in this TLB only by a PCID.
 */
void __dune_flush(const ptent_t *root, uint64_t first, uint64_t last, ptent_t seen)
{
	bool inside = in_guest();

	if (inside && (runs_on(root) || root == __dune_running_root()))
		flush_pages(first, last, seen & PTE_G);
	else if (inside && read_cr4() & CR4_PCIDE)
		flush_everything();
	flush_others(inside);
}

DUNE_EXPORT int dune_tlb_shootdown(const void *addr, size_t len)
{
	uint64_t first = (uint64_t)addr;
	bool inside = in_guest();

	if (!__dune_pool.size)
		return -EINVAL;
	if (!len)
		return 0;
	if (inside)
		flush_pages(first, first + len - 1 < first ? ~0ULL : first + len - 1, true);
	return (int)flush_others(inside);
}

DUNE_EXPORT int dune_enable_pcid(unsigned int want)
{
	unsigned long cr4;

	if (!in_guest() || want & ~(unsigned int)DUNE_WANT_INVPCID)
		return -EINVAL;
	if (!(__dune_info.features & DUNE_FEAT_PCID) ||
	    (want & DUNE_WANT_INVPCID && !(__dune_info.features & DUNE_FEAT_INVPCID)))
		return -ENOTSUP;
	cr4 = read_cr4();
	if (cr4 & CR4_PCIDE)
		return 0;
	if (dune_read_cr3() & CR3_PCID_MASK)
		return -EINVAL;
	write_cr4(cr4 | CR4_PCIDE);
	return 0;
}
