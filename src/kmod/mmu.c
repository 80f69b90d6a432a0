// SPDX-License-Identifier: GPL-2.0-only
/*
 * The second stage: a mirror of the mm's page tables.
 *
 * An entry exists only because a fault read it from the mm's tables, and
 * goes away as soon as the mm says so through the notifier.  No page is
 * pinned or counted.  The order that keeps this right:
 *
 *   fault:       mmu_lock; if no invalidation of that address is under way,
 *                read the mm's entry and install; unlock
 *   invalidate:  mmu_lock; inv_active++; remove entries; flush; unlock; the
 *                mm changes its tables; inv_active--
 *
 * So what a fault reads stays true until somebody who takes mmu_lock removes
 * the copy, and whoever sees inv_active go down sees the mm's new tables.
 * Where the mm's tables allow no such access, which is looked at without
 * mmu_lock first, the mm's own fault handler is asked, and the tables are read
 * again.
 *
 * Flushing: bump tlb_gen, then interrupt every CPU in vm->running and wait.
 * A vCPU sets its bit before it reads tlb_gen, so it either sees the new
 * value and flushes on entry, or is seen in the mask and leaves guest mode.
 */
#include <linux/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <linux/userfaultfd_k.h>
#include <asm/futex.h>
#include <asm/mmu_context.h>
#include <uapi/linux/futex.h>

#include "compat.h"
#include "dune.h"

#define ENTRY_ADDR	0x000ffffffffff000ULL

/* What the mm's tables say about one address. */
struct mmu_page {
	u64 pa;
	u32 access;
	int level;		/* of the leaf */
	bool special;		/* it may have no struct page: no RAM */
};

static inline int level_shift(int level)
{
	return PAGE_SHIFT + 9 * (level - 1);
}

static inline u64 level_size(int level)
{
	return 1ULL << level_shift(level);
}

static inline bool is_leaf(u64 entry, int level)
{
	return level == 1 || (entry & dune_ops->leaf_bit);
}

static inline u64 *entry_table(u64 entry)
{
	return __va(__sme_clr(entry & ENTRY_ADDR));
}

static inline u64 *entry_at(u64 *table, u64 gpa, int level)
{
	return &table[(gpa >> level_shift(level)) & 511];
}

static void free_table(u64 *table, int level)
{
	int i;

	for (i = 0; level > 1 && i < 512; i++)
		if (table[i] && !is_leaf(table[i], level))
			free_table(entry_table(table[i]), level - 1);
	free_page((unsigned long)table);
}

void dune_mmu_free(struct dune_vm *vm)
{
	if (vm->root)
		free_table(vm->root, vm->levels);
}

static bool cache_fill(struct dune_mmu_cache *cache)
{
	while (cache->nr < ARRAY_SIZE(cache->page)) {
		void *page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

		if (!page)
			return false;
		cache->page[cache->nr++] = page;
	}
	return true;
}

void dune_mmu_cache_free(struct dune_mmu_cache *cache)
{
	while (cache->nr)
		free_page((unsigned long)cache->page[--cache->nr]);
}

static void flush_ack(void *unused)
{
	/* The interrupt itself was the point: it ended guest mode. */
}

static void flush_all(struct dune_vm *vm)
{
	lockdep_assert_held(&vm->mmu_lock);

	atomic64_inc(&vm->tlb_gen);
	smp_mb__after_atomic();	/* pairs with vcpu.c, before it reads tlb_gen */
	if (!cpumask_empty(vm->running))
		smp_call_function_many(vm->running, flush_ack, NULL, 1);
}

/* DUNE_FLUSH_TLB: forget what every vCPU's TLB holds before it runs guest code again. */
int dune_mmu_flush(struct dune_vm *vm)
{
	spin_lock(&vm->mmu_lock);
	flush_all(vm);
	spin_unlock(&vm->mmu_lock);
	return 0;
}

/* Clear [gpa, end) below @table.  Tables stay: the next fault reuses them. */
static bool zap(u64 *table, int level, u64 gpa, u64 end)
{
	bool any = false;
	u64 next;

	for (; gpa < end; gpa = next) {
		u64 *e = entry_at(table, gpa, level);

		next = min((gpa | (level_size(level) - 1)) + 1, end);
		if (!*e)
			continue;
		if (is_leaf(*e, level)) {
			WRITE_ONCE(*e, 0);
			any = true;
		} else {
			any |= zap(entry_table(*e), level - 1, gpa, next);
		}
	}
	return any;
}

bool dune_mmu_invalidate(struct dune_vm *vm, unsigned long start, unsigned long end)
{
	unsigned long gib = start >> DUNE_WINDOW_SHIFT, last = (end - 1) >> DUNE_WINDOW_SHIFT;
	void *entry;
	bool any = false;

	lockdep_assert_held(&vm->mmu_lock);
	if (start >= end)
		return false;

	/* In a window both addresses of a page end in the same bits. */
	if (start >> PMD_SHIFT == vm->recent_hva && (end - 1) >> PMD_SHIFT == vm->recent_hva) {
		any = zap(vm->recent, 1, start, end);
		goto out;
	}
	for (; gib <= last && (entry = xa_find(&vm->by_hva, &gib, last, XA_PRESENT)); gib++) {
		u64 hva = (u64)gib << DUNE_WINDOW_SHIFT;
		u64 gpa = (u64)xa_to_value(entry) << DUNE_WINDOW_SHIFT;
		u64 from = max_t(u64, start, hva) - hva;
		u64 to = min_t(u64, end - hva, DUNE_WINDOW_SIZE);

		any |= zap(vm->root, vm->levels, gpa + from, gpa + to);
	}
out:
	if (any)
		flush_all(vm);
	return any;
}

/* Protection keys refuse data and nothing else: execute-only memory is made of that. */
static bool fetchable(u64 flags, u32 access)
{
	return access & DUNE_ACCESS_EXEC &&
	       (flags & (_PAGE_PRESENT | _PAGE_USER)) == (_PAGE_PRESENT | _PAGE_USER);
}

/*
 * What the mm maps at @hva, if that allows @access, read as the CPU would
 * (SDM 4.5, APM 5.3).  Nobody takes it away while mmu_lock is held and no
 * invalidation is under way; IRQs off keep the tables from being freed (they
 * are freed by IPI or RCU, as for GUP-fast).
 *
 * A guest's writes leave no trace in the mm's entry, so only one that is dirty
 * already is writable; the mm's fault handler makes it so.
 */
static __always_inline bool read_mm(struct mm_struct *mm, unsigned long hva, u32 access,
				    struct mmu_page *p)
{
	u64 *table = (u64 *)mm->pgd, e;
	int level = pgtable_l5_enabled() ? 5 : 4;
	pte_t leaf;	/* rights and dirty bit have one place on all levels */
	bool write;

	local_irq_disable();
	for (;; level--) {
		e = READ_ONCE(*entry_at(table, hva, level));
		if (level == 1 || (e & (_PAGE_PRESENT | _PAGE_PSE)) != _PAGE_PRESENT)
			break;
		table = __va(e & PTE_PFN_MASK);
	}
	local_irq_enable();
	if (!(e & _PAGE_PRESENT))
		return false;
	leaf = __pte(e);
	write = pte_dirty(leaf) && pte_access_permitted(leaf, true);
	p->pa = (e & PTE_PFN_MASK & -level_size(level)) | (hva & (level_size(level) - 1));
	p->level = level;
	p->special = level > 1 || pte_special(leaf);
	p->access = DUNE_ACCESS_READ | (write ? DUNE_ACCESS_WRITE : 0) |
		    (pte_exec(leaf) ? DUNE_ACCESS_EXEC : 0);
	return (pte_access_permitted(leaf, false) || fetchable(e, access)) &&
	       !(access & ~p->access & (DUNE_ACCESS_WRITE | DUNE_ACCESS_EXEC));
}

/* Copy @p for @hva at @gpa.  The cache holds enough pages. */
static void install(struct dune_vm *vm, struct dune_mmu_cache *cache, unsigned long hva, u64 gpa,
		    struct mmu_page *p)
{
	int level = min(p->level, dune_ops->max_map_level), l = vm->levels;
	u64 *table = vm->root, *victim = NULL, *e;
	bool flush = false;

	if (level == 1 && vm->recent_hva == hva >> PMD_SHIFT) {
		table = vm->recent;
		l = 1;
	}
	for (;; l--) {
		e = entry_at(table, gpa, l);
		if (l == level)
			break;
		if (*e && is_leaf(*e, l)) {
			/* A larger leaf that does not do: fault it back in pieces. */
			WRITE_ONCE(*e, 0);
			flush = true;
		}
		if (!*e)
			WRITE_ONCE(*e, dune_ops->make_table(__pa(cache->page[--cache->nr])));
		table = entry_table(*e);
	}

	if (level == 1) {
		vm->recent_hva = hva >> PMD_SHIFT;
		vm->recent = table;
	} else if (*e && !is_leaf(*e, level)) {
		victim = entry_table(*e);
		vm->recent_hva = DUNE_NO_TABLE;
		flush = true;
	}
	WRITE_ONCE(*e, dune_ops->make_leaf(p->pa & -level_size(level), p->access, level,
					   p->special && !pfn_valid(p->pa >> PAGE_SHIFT)));

	if (flush)
		flush_all(vm);
	if (victim)
		free_table(victim, level - 1);
}

/*
 * Touch user memory as the kernel may: the page-fault handler grows stacks
 * and sends no signal when it refuses.  The write is an atomic ADD of 0.
 */
static bool touch_user(unsigned long hva, bool write)
{
	int old;
	u8 byte;

	if (!write)
		return !get_user(byte, (u8 __user *)hva);
	return !arch_futex_atomic_op_inuser(FUTEX_OP_ADD, 0, &old, (u32 __user *)(hva & ~3UL));
}

/*
 * Have the mm map @hva for @access.  0 it did, or try again; -EFAULT it
 * refuses; -EINTR.
 *
 * A fault of guest mode is one of user mode to userfaultfd, which may refuse
 * all others.  To the memory cgroup it is not: what a fault of user mode leaves
 * behind there (v1, OOM killer off) only the kernel's own #PF handler tidies up.
 * Out of memory without an OOM kill, here as for the second stage's tables: the
 * access is made again, as natively.
 */
static int ask_mm(struct mm_struct *mm, unsigned long hva, u32 access)
{
	bool write = access & DUNE_ACCESS_WRITE, exec = access & DUNE_ACCESS_EXEC;
	struct vm_area_struct *vma;
	vm_fault_t fault = VM_FAULT_SIGSEGV;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	vma = vma_lookup(mm, hva);
	if (vma && (vma->vm_flags & (write ? VM_WRITE : exec ? VM_EXEC : VM_ACCESS_FLAGS)) &&
	    arch_vma_access_permitted(vma, write, exec, false))
		fault = handle_mm_fault(vma, hva, FAULT_FLAG_DEFAULT |
					(write ? FAULT_FLAG_WRITE : 0) |
					(exec ? FAULT_FLAG_INSTRUCTION : 0) |
					(userfaultfd_armed(vma) ? FAULT_FLAG_USER : 0), NULL);
	/* With these two the mm let go of the lock itself. */
	if (!(fault & (VM_FAULT_RETRY | VM_FAULT_COMPLETED)))
		mmap_read_unlock(mm);

	if (fault & VM_FAULT_ERROR && !vma && touch_user(hva, write))
		fault = 0;
	if (fault & VM_FAULT_OOM ||
	    (fault & (VM_FAULT_ERROR | VM_FAULT_RETRY) && signal_pending(current)))
		return -EINTR;
	return fault & VM_FAULT_ERROR ? -EFAULT : 0;
}

/* Does the mm seem to allow @access at @hva?  Without mmu_lock that may change at once. */
static noinline bool is_mapped(struct mm_struct *mm, unsigned long hva, u32 access)
{
	struct mmu_page p;

	return read_mm(mm, hva, access, &p);
}

static bool invalidation_covers(struct dune_vm *vm, unsigned long hva)
{
	return atomic_read(&vm->inv_active) && hva >= READ_ONCE(vm->inv_start) &&
	       hva < READ_ONCE(vm->inv_end);
}

/* DUNE_MMU_RETRY: the mm is changing what it maps there.  -EFAULT: it maps nothing like that. */
static int mirror(struct dune_vcpu *vcpu, unsigned long hva, u64 gpa, u32 access)
{
	struct dune_vm *vm = vcpu->vm;
	int ret = DUNE_MMU_RETRY;
	struct mmu_page p;

	spin_lock(&vm->mmu_lock);
	if (invalidation_covers(vm, hva))
		goto out;
	ret = -EFAULT;
	if (!read_mm(vm->mn.mm, hva, access, &p))
		goto out;
	install(vm, &vcpu->cache, hva, gpa, &p);
	ret = 0;
out:
	spin_unlock(&vm->mmu_lock);
	return ret;
}

int dune_mmu_fault(struct dune_vcpu *vcpu, struct dune_fault *fault)
{
	struct dune_exit *x = &vcpu->exit;
	struct mm_struct *mm = vcpu->vm->mn.mm;
	u64 hva = 0;
	bool known = dune_gpa_to_hva(vcpu->vm, x->gpa, &hva);
	int ret = -EFAULT;

	if (known) {
		ret = -EINTR;
		if (cache_fill(&vcpu->cache))
			ret = is_mapped(mm, hva, x->access) ?
			      mirror(vcpu, hva, x->gpa, x->access) : -EFAULT;
		if (ret == -EFAULT) {
			/* The very byte: a stack grows by address. */
			ret = ask_mm(mm, hva, x->access);
			if (!ret)
				ret = mirror(vcpu, hva, x->gpa, x->access) ? DUNE_MMU_RETRY : 0;
		}
	}
	if (ret == DUNE_MMU_RETRY)
		/* Whoever invalidates may be waiting for this very CPU. */
		wait_event_interruptible(vcpu->vm->inv_wait, !invalidation_covers(vcpu->vm, hva));
	if (ret == -EFAULT)
		*fault = (struct dune_fault) {
			.gpa = x->gpa,
			.hva = hva,
			.gva = x->gva,
			.access = x->access,
			.present = known && is_mapped(mm, hva, DUNE_ACCESS_READ),
			.no_window = !known,
			.gva_valid = x->gva_valid,
		};
	return ret;
}
