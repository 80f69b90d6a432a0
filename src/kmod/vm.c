// SPDX-License-Identifier: GPL-2.0-only
/*
 * The VM of an address space: its life, its windows, its MMU notifier.
 *
 * The notifier itself is the reference count: mmu_notifier_get() finds the
 * VM of an mm or makes it, mmu_notifier_put() drops it, and the VM is freed
 * after the notifier's SRCU grace period, when no callback can still run.
 * It holds mm_count, not mm_users: a VM never keeps an exited process's
 * memory.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "dune.h"

static struct workqueue_struct *vm_wq;

static struct dune_vm *to_vm(struct mmu_notifier *mn)
{
	return container_of(mn, struct dune_vm, mn);
}

/* Also of a VM that was made in part. */
static void vm_destroy(struct work_struct *work)
{
	struct dune_vm *vm = container_of(work, struct dune_vm, free_work);

	dune_mmu_free(vm);
	xa_destroy(&vm->by_hva);
	kvfree(vm->windows);
	free_cpumask_var(vm->running);
	kfree(vm);
}

static struct mmu_notifier *vm_alloc(struct mm_struct *mm)
{
	struct dune_vm *vm;

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		return ERR_PTR(-ENOMEM);
	spin_lock_init(&vm->mmu_lock);
	init_waitqueue_head(&vm->inv_wait);
	mutex_init(&vm->window_mutex);
	xa_init_flags(&vm->by_hva, XA_FLAGS_ACCOUNT);
	atomic64_set(&vm->tlb_gen, 0);
	vm->recent_hva = DUNE_NO_TABLE;
	vm->levels = dune_ops->levels;
	vm->max_windows = 1U << (dune_ops->gpa_bits - DUNE_WINDOW_SHIFT);

	vm->root = (u64 *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	vm->windows = kvcalloc(vm->max_windows, sizeof(*vm->windows), GFP_KERNEL_ACCOUNT);
	if (zalloc_cpumask_var(&vm->running, GFP_KERNEL_ACCOUNT) && vm->windows && vm->root)
		return &vm->mn;
	vm_destroy(&vm->free_work);
	return ERR_PTR(-ENOMEM);
}

/*
 * Called from SRCU with bottom halves off, or by mmu_notifier_get() for a
 * VM that lost a race; freeing a large table wants to be able to sleep.
 */
static void vm_free_notifier(struct mmu_notifier *mn)
{
	struct dune_vm *vm = to_vm(mn);

	INIT_WORK(&vm->free_work, vm_destroy);
	queue_work(vm_wq, &vm->free_work);
}

static int vm_invalidate_start(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct dune_vm *vm = to_vm(mn);

	spin_lock(&vm->mmu_lock);
	if (atomic_inc_return(&vm->inv_active) == 1) {
		vm->inv_start = range->start;
		vm->inv_end = range->end;
	} else {
		vm->inv_start = min(vm->inv_start, range->start);
		vm->inv_end = max(vm->inv_end, range->end);
	}
	dune_mmu_invalidate(vm, range->start, range->end);
	spin_unlock(&vm->mmu_lock);
	return 0;
}

static void vm_invalidate_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct dune_vm *vm = to_vm(mn);

	smp_mb__before_atomic();	/* pairs with mmu.c: a fault then reads the new tables */
	atomic_dec(&vm->inv_active);
	smp_mb__after_atomic();	/* a fault that goes to sleep now sees it */
	if (waitqueue_active(&vm->inv_wait))
		wake_up_all(&vm->inv_wait);
}

/*
 * Ageing.  Second-stage entries carry no accessed bit that is read here:
 * the entry is dropped, and a page still in use comes back by a fault.
 */
static DUNE_YOUNG vm_clear_flush_young(struct mmu_notifier *mn, struct mm_struct *mm,
				       unsigned long start, unsigned long end)
{
	struct dune_vm *vm = to_vm(mn);
	bool young;

	spin_lock(&vm->mmu_lock);
	young = dune_mmu_invalidate(vm, start, end);
	spin_unlock(&vm->mmu_lock);
	return young;
}

/* No release: when the mm goes away nobody has it any more to run a vCPU with. */
static const struct mmu_notifier_ops vm_mn_ops = {
	.alloc_notifier		= vm_alloc,
	.free_notifier		= vm_free_notifier,
	.invalidate_range_start	= vm_invalidate_start,
	.invalidate_range_end	= vm_invalidate_end,
	.clear_flush_young	= vm_clear_flush_young,
};

/**
 * dune_vm_get - the VM of @mm, made if there is none
 *
 * Takes mmap_lock for writing.  Return: an ERR_PTR, or a VM that is counted:
 * mmu_notifier_put() gives it back.  -ERESTARTNOINTR: a signal or a stop comes first
 * (mm_take_all_locks() gives up then), and the caller's system call is made again.
 */
struct dune_vm *dune_vm_get(struct mm_struct *mm)
{
	struct mmu_notifier *mn = mmu_notifier_get(&vm_mn_ops, mm);

	if (mn == ERR_PTR(-EINTR))
		return ERR_PTR(-ERESTARTNOINTR);
	return IS_ERR(mn) ? ERR_CAST(mn) : to_vm(mn);
}

/* Window @i shows @gib.  -EBUSY: another one does already.  window_mutex is held. */
static int put_window(struct dune_vm *vm, unsigned int i, u64 gib)
{
	vm->windows[i] = gib << DUNE_WINDOW_SHIFT;
	return xa_insert(&vm->by_hva, gib, xa_mk_value(i), GFP_KERNEL_ACCOUNT);
}

/**
 * dune_vm_map_window - give the GiB around @hva a guest-physical address
 *
 * Windows are never taken back: guest page tables may hold their addresses.
 * Return: 0, -EINVAL for an address no process can have, -ENOSPC when the
 * guest-physical space is full, -ENOMEM.
 */
int dune_vm_map_window(struct dune_vm *vm, u64 hva, struct dune_window *win)
{
	u64 gib = hva >> DUNE_WINDOW_SHIFT;
	void *entry;
	int ret;

	if (hva >= DUNE_HVA_LIMIT)
		return -EINVAL;

	mutex_lock(&vm->window_mutex);
	entry = xa_load(&vm->by_hva, gib);
	ret = entry ? 0 : vm->nr_windows >= vm->max_windows ? -ENOSPC :
	      put_window(vm, vm->nr_windows, gib);
	if (!entry && !ret) {
		entry = xa_mk_value(vm->nr_windows);
		/* pairs with dune_gpa_to_hva() */
		smp_store_release(&vm->nr_windows, vm->nr_windows + 1);
	}
	if (!ret) {
		win->hva = gib << DUNE_WINDOW_SHIFT;
		win->gpa = (u64)xa_to_value(entry) << DUNE_WINDOW_SHIFT;
	}
	mutex_unlock(&vm->window_mutex);
	return ret;
}

/**
 * dune_vm_set_windows - all windows of a VM that has none
 *
 * Return: 0, -EEXIST if it has one, -EINVAL for an address that is no start
 * of a window or comes twice, -ENOMEM; all or nothing.
 */
int dune_vm_set_windows(struct dune_vm *vm, const u64 *hvas, unsigned int nr)
{
	unsigned int i;
	int ret = 0;

	mutex_lock(&vm->window_mutex);
	if (vm->nr_windows)
		ret = -EEXIST;
	for (i = 0; i < nr && !ret; i++) {
		vm->windows[i] = DUNE_NO_WINDOW;
		if (hvas[i] == DUNE_NO_WINDOW)
			continue;
		if (hvas[i] >= DUNE_HVA_LIMIT || hvas[i] & (DUNE_WINDOW_SIZE - 1))
			ret = -EINVAL;
		else
			ret = put_window(vm, i, hvas[i] >> DUNE_WINDOW_SHIFT);
	}
	if (!ret)	/* pairs with dune_gpa_to_hva() */
		smp_store_release(&vm->nr_windows, nr);
	else if (!vm->nr_windows)
		xa_destroy(&vm->by_hva);
	mutex_unlock(&vm->window_mutex);
	return ret == -EBUSY ? -EINVAL : ret;
}

/**
 * dune_gpa_to_hva - which host-virtual address a guest-physical one means
 *
 * Any context.  Return: false where there is no window.
 */
bool dune_gpa_to_hva(struct dune_vm *vm, u64 gpa, u64 *hva)
{
	u64 i = gpa >> DUNE_WINDOW_SHIFT;

	/* pairs with those who publish it: the entry is there */
	if (i >= smp_load_acquire(&vm->nr_windows) || vm->windows[i] == DUNE_NO_WINDOW)
		return false;
	*hva = vm->windows[i] | (gpa & (DUNE_WINDOW_SIZE - 1));
	return true;
}

int dune_vm_init(void)
{
	vm_wq = alloc_workqueue("dune", WQ_UNBOUND, 0);
	return vm_wq ? 0 : -ENOMEM;
}

/* No VM is in use any more; wait for the ones still on their way out. */
void dune_vm_exit(void)
{
	mmu_notifier_synchronize();
	destroy_workqueue(vm_wq);
}
