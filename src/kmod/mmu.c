// SPDX-License-Identifier: GPL-2.0-only
/*
 * The second stage: a mirror of the mm's page tables.
 *
 * An entry exists only because a fault looked the page up in the mm, and
 * goes away as soon as the mm says so through the notifier.  No page is
 * pinned.  The order that keeps this right (as in KVM):
 *
 *   fault:       seq = inv_seq; look the page up; mmu_lock; if inv_seq moved
 *                or an invalidation of that address is under way, drop the
 *                page and try again; else install; unlock
 *   invalidate:  mmu_lock; inv_active++; remove entries; flush; unlock; the
 *                mm changes its tables; mmu_lock; inv_seq++; inv_active--
 *
 * Flushing: bump tlb_gen, then interrupt every CPU in vm->running and wait.
 * A vCPU sets its bit before it reads tlb_gen, so it either sees the new
 * value and flushes on entry, or is seen in the mask and leaves guest mode.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/futex.h>
#include <uapi/linux/futex.h>

#include "compat.h"
#include "dune.h"

#define ENTRY_ADDR	0x000ffffffffff000ULL

/* What the mm answered for one address. */
struct mmu_page {
	struct page *page;	/* counted, or NULL for a PFN mapping */
	u64 pfn;
	u32 access;
	bool uc;
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

int dune_mmu_init(struct dune_vm *vm)
{
	vm->root = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	return vm->root ? 0 : -ENOMEM;
}

void dune_mmu_free(struct dune_vm *vm)
{
	if (vm->root)
		free_table(vm->root, vm->levels);
}

static int cache_fill(struct dune_mmu_cache *cache)
{
	while (cache->nr < ARRAY_SIZE(cache->page)) {
		void *page = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);

		if (!page)
			return -ENOMEM;
		cache->page[cache->nr++] = page;
	}
	return 0;
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
	preempt_disable();
	smp_call_function_many(vm->running, flush_ack, NULL, 1);
	preempt_enable();
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
	unsigned long gib;
	void *entry;
	bool any = false;

	lockdep_assert_held(&vm->mmu_lock);
	if (start >= end)
		return false;

	xa_for_each_range(&vm->by_hva, gib, entry, start >> DUNE_WINDOW_SHIFT,
			  (end - 1) >> DUNE_WINDOW_SHIFT) {
		u64 hva = (u64)gib << DUNE_WINDOW_SHIFT;
		u64 gpa = (u64)xa_to_value(entry) << DUNE_WINDOW_SHIFT;
		u64 from = max_t(u64, start, hva) - hva;
		u64 to = min_t(u64, end - hva, DUNE_WINDOW_SIZE);

		any |= zap(vm->root, vm->levels, gpa + from, gpa + to);
	}
	if (any)
		flush_all(vm);
	return any;
}

/*
 * How large a leaf the mm itself maps @hva with.  The notifier protects the
 * answer: mmu_lock is held and the sequence was checked.  IRQs off keep the
 * tables from being freed (they are freed by IPI or RCU, as for GUP-fast).
 */
static int host_level(struct mm_struct *mm, unsigned long hva, bool write)
{
	unsigned long flags;
	int level = 1;
	pgd_t *pgd;
	p4d_t *p4d;
	pud_t *pud, pudv;
	pmd_t *pmd, pmdv;

	local_irq_save(flags);
	pgd = pgd_offset(mm, hva);
	if (pgd_none(READ_ONCE(*pgd)))
		goto out;
	p4d = p4d_offset(pgd, hva);
	if (p4d_none(READ_ONCE(*p4d)))
		goto out;
	pud = pud_offset(p4d, hva);
	pudv = READ_ONCE(*pud);
	if (pud_none(pudv) || !pud_present(pudv))
		goto out;
	if (pud_leaf(pudv)) {
		level = !write || pud_write(pudv) ? 3 : 1;
		goto out;
	}
	pmd = pmd_offset(pud, hva);
	pmdv = READ_ONCE(*pmd);
	if (pmd_present(pmdv) && pmd_leaf(pmdv) && (!write || pmd_write(pmdv)))
		level = 2;
out:
	local_irq_restore(flags);
	return min(level, dune_ops->max_map_level);
}

/* Put @leaf at @level for @gpa.  The cache holds enough pages. */
static void install(struct dune_vm *vm, struct dune_mmu_cache *cache, u64 gpa,
		    struct mmu_page *p, int level)
{
	u64 *table = vm->root, *victim = NULL, *e;
	u64 pa = (p->pfn << PAGE_SHIFT) & ~(level_size(level) - 1);
	bool flush = false;
	int l;

	for (l = vm->levels; ; l--) {
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

	if (*e && !is_leaf(*e, level)) {
		victim = entry_table(*e);
		flush = true;
	} else if (*e && __sme_clr(*e & ENTRY_ADDR & ~(level_size(level) - 1)) == pa) {
		p->access |= dune_ops->leaf_access(*e);
	}
	WRITE_ONCE(*e, dune_ops->make_leaf(pa, p->access, level, p->uc));

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
	return !arch_futex_atomic_op_inuser(FUTEX_OP_ADD, 0, &old,
					    (u32 __user *)(hva & ~3UL));
}

/*
 * Pages without a struct page that counts: vvar, device memory.  Return: 1
 * found, 0 not such a mapping, -errno.
 */
static int lookup_pfnmap(struct mm_struct *mm, unsigned long hva, u32 access,
			 struct mmu_page *p)
{
	unsigned int flags = access & DUNE_ACCESS_WRITE ? FAULT_FLAG_WRITE : 0;
	struct vm_area_struct *vma;
	bool unlocked = false, writable;
	unsigned long pfn;
	int ret = 0;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, hva);
	if (!vma || !(vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP | VM_IO)))
		goto out;
	ret = fixup_user_fault(mm, hva, flags, &unlocked);
	if (ret)
		goto out;
	ret = -EAGAIN;
	if (unlocked)
		goto out;
	ret = dune_follow_pfn(vma, hva, &pfn, &writable);
	if (ret)
		goto out;
	ret = -EFAULT;
	if ((access & DUNE_ACCESS_WRITE) && !writable)
		goto out;
	p->page = NULL;
	p->pfn = pfn;
	p->uc = !pfn_valid(pfn);
	p->access = DUNE_ACCESS_READ | (writable ? DUNE_ACCESS_WRITE : 0);
	ret = 1;
out:
	mmap_read_unlock(mm);
	return ret;
}

static bool vma_executable(struct mm_struct *mm, unsigned long hva)
{
	struct vm_area_struct *vma;
	bool ok;

	mmap_read_lock(mm);
	vma = vma_lookup(mm, hva);
	ok = vma && (vma->vm_flags & VM_EXEC);
	mmap_read_unlock(mm);
	return ok;
}

/* Is the page there already?  One that is writable saves a second fault. */
static bool lookup_fast(unsigned long hva, bool write, struct mmu_page *p)
{
	p->access = DUNE_ACCESS_READ;
	if (get_user_pages_fast_only(hva, 1, FOLL_WRITE, &p->page) == 1)
		p->access |= DUNE_ACCESS_WRITE;
	else if (write || get_user_pages_fast_only(hva, 1, 0, &p->page) != 1)
		return false;
	return true;
}

static bool is_mapped(struct mm_struct *mm, unsigned long hva)
{
	bool ret;

	mmap_read_lock(mm);
	ret = vma_lookup(mm, hva);
	mmap_read_unlock(mm);
	return ret;
}

/*
 * Ask the mm for the page at @hva.  0 found; -EAGAIN enter again; -EFAULT
 * refused; -EINTR.
 */
static int lookup(struct mm_struct *mm, unsigned long hva, u32 access,
		  struct mmu_page *p)
{
	bool write = access & DUNE_ACCESS_WRITE;
	int ret;

	p->uc = false;
	if (lookup_fast(hva, write, p))
		goto found;
	/* Since 6.5 get_user_pages() no longer grows stacks, and complains. */
	if (is_mapped(mm, hva) || touch_user(hva, write)) {
		ret = get_user_pages_fast(hva, 1, write ? FOLL_WRITE : 0, &p->page);
		if (ret == 1) {
			p->access = DUNE_ACCESS_READ | (write ? DUNE_ACCESS_WRITE : 0);
			goto found;
		}
	}
	ret = lookup_pfnmap(mm, hva, access, p);
	if (ret == 1)
		return 0;
	/* Refused, unless it came and went since. */
	if (ret == -EAGAIN || (!ret && touch_user(hva, write)))
		return -EAGAIN;
	return signal_pending(current) ? -EINTR : -EFAULT;

found:
	p->pfn = page_to_pfn(p->page);
	return 0;
}

static bool is_present(unsigned long hva)
{
	struct page *page;

	if (get_user_pages_fast_only(hva, 1, 0, &page) != 1)
		return false;
	put_page(page);
	return true;
}

static bool invalidation_covers(struct dune_vm *vm, unsigned long hva)
{
	return vm->inv_active && hva >= vm->inv_start && hva < vm->inv_end;
}

int dune_mmu_fault(struct dune_vcpu *vcpu, struct dune_fault *fault)
{
	struct dune_exit *x = &vcpu->exit;
	struct dune_vm *vm = vcpu->vm;
	struct mm_struct *mm = vm->mn.mm;
	unsigned long seq, hva;
	struct mmu_page p = { };
	bool exec = x->access & DUNE_ACCESS_EXEC;
	int level, ret;

	*fault = (struct dune_fault) {
		.gpa = x->gpa,
		.gva = x->gva,
		.gva_valid = x->gva_valid,
		.access = x->access,
	};
	if (!dune_gpa_to_hva(vm, x->gpa, &fault->hva)) {
		fault->no_window = 1;
		return -EFAULT;
	}
	hva = fault->hva & PAGE_MASK;

	ret = cache_fill(&vcpu->cache);
	if (ret)
		return ret;

	seq = READ_ONCE(vm->inv_seq);
	smp_rmb();	/* the sequence before the lookup */

	/* touch_user() wants the very byte: a stack grows by address. */
	ret = lookup(mm, fault->hva, x->access, &p);
	if (!ret && exec) {
		if (vma_executable(mm, hva))
			p.access |= DUNE_ACCESS_EXEC;
		else
			ret = -EFAULT;
	}
	if (ret == -EAGAIN)
		return DUNE_MMU_RETRY;
	if (ret) {
		if (ret == -EFAULT)
			fault->present = is_present(hva);
		goto out;
	}

	ret = DUNE_MMU_RETRY;
	spin_lock(&vm->mmu_lock);
	if (vm->inv_seq == seq && !invalidation_covers(vm, hva)) {
		level = p.page ? host_level(mm, hva, p.access & DUNE_ACCESS_WRITE) : 1;
		install(vm, &vcpu->cache, x->gpa, &p, level);
		if (p.page && (p.access & DUNE_ACCESS_WRITE) && !PageReserved(p.page))
			SetPageDirty(p.page);
		ret = 0;
	}
	spin_unlock(&vm->mmu_lock);
out:
	if (p.page)
		put_page(p.page);
	return ret;
}
