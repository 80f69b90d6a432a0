// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device /dev/dune, and the life of the module.
 *
 * An open file is the VM of the address space that opened it.  A process
 * that inherits or receives the descriptor has another mm and gets EIO: it
 * opens its own, or asks for it here.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "dune.h"
#include "ksyms.h"

const struct dune_ops *dune_ops __ro_after_init;
DEFINE_STATIC_CALL_NULL(dune_enter, *((struct dune_ops *)NULL)->enter);

static const struct file_operations dune_fops;

/* The caller's, counted, and the extension turned on. */
static struct dune_vm *vm_get(void)
{
	struct dune_vm *vm;
	int ret = current->mm ? dune_cpu_get() : -EINVAL;

	if (ret)
		return ERR_PTR(ret);
	vm = dune_vm_get(current->mm);
	if (IS_ERR(vm))
		dune_cpu_put();
	return vm;
}

static void vm_put(struct dune_vm *vm)
{
	mmu_notifier_put(&vm->mn);
	dune_cpu_put();
}

static int dune_open(struct inode *inode, struct file *file)
{
	file->private_data = vm_get();
	return PTR_ERR_OR_ZERO(file->private_data);
}

static int dune_release(struct inode *inode, struct file *file)
{
	vm_put(file->private_data);
	return 0;
}

/* For the child of a fork, to which the path of the device may be closed. */
static int dune_new_vm(void)
{
	struct dune_vm *vm = vm_get();
	int fd;

	if (IS_ERR(vm))
		return PTR_ERR(vm);
	fd = anon_inode_getfd("dune-vm", &dune_fops, vm, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		vm_put(vm);
	return fd;
}

static long dune_get_info(struct dune_info __user *argp)
{
	struct dune_info info = {
		.abi_version	= DUNE_ABI_VERSION,
		.vendor		= dune_ops->vendor,
		.features	= DUNE_FEAT_NX |	/* both vendors' long mode has it here */
				  (dune_has_sys_call ? DUNE_FEAT_FAST_CALLS : 0) |
				  (dune_ops->post ? DUNE_FEAT_POSTED : 0) |
				  (u64)dune_ops->traps << DUNE_FEAT_TRAPS_SHIFT,
		.gpa_bits	= dune_ops->gpa_bits,
		.window_shift	= DUNE_WINDOW_SHIFT,
		.run_size	= PAGE_SIZE,
		.stats_size	= PAGE_SIZE,
	};

	info.cr4_allowed = dune_cpu_bits(&info.features) | DUNE_CR4_FIXED;
	return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
}

static long dune_map_window(struct dune_vm *vm, struct dune_window __user *argp)
{
	struct dune_window win;
	int ret;

	if (copy_from_user(&win, argp, sizeof(win)))
		return -EFAULT;
	ret = dune_vm_map_window(vm, win.hva, &win);
	return ret ?: copy_to_user(argp, &win, sizeof(win)) ? -EFAULT : 0;
}

static long dune_set_windows(struct dune_vm *vm, const void __user *argp)
{
	struct dune_windows arg;
	u64 *hvas;
	int ret;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (arg.pad || arg.nr > vm->max_windows)
		return -EINVAL;
	hvas = vmemdup_user(u64_to_user_ptr(arg.hvas), arg.nr * sizeof(*hvas));
	if (IS_ERR(hvas))
		return PTR_ERR(hvas);
	ret = dune_vm_set_windows(vm, hvas, arg.nr);
	kvfree(hvas);
	return ret;
}

static long dune_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct dune_vm *vm = file->private_data;

	if (cmd == DUNE_NEW_VM)
		return arg ? -EINVAL : dune_new_vm();
	if (current->mm != vm->mn.mm)
		return -EIO;

	switch (cmd) {
	case DUNE_GET_INFO:
		return dune_get_info((void __user *)arg);
	case DUNE_MAP_WINDOW:
		return dune_map_window(vm, (void __user *)arg);
	case DUNE_SET_WINDOWS:
		return dune_set_windows(vm, (void __user *)arg);
	case DUNE_CREATE_VCPU:
		return arg ? -EINVAL : dune_vcpu_create(file);
	case DUNE_FLUSH_TLB:
		return arg ? -EINVAL : dune_mmu_flush(vm);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations dune_fops = {
	.owner		= THIS_MODULE,
	.open		= dune_open,
	.release	= dune_release,
	.unlocked_ioctl	= dune_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice dune_dev = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "dune",
	.mode	= 0666,
	.fops	= &dune_fops,
};

static int __init dune_pick_ops(void)
{
	dune_ops = boot_cpu_has(X86_FEATURE_VMX) ? &dune_vmx_ops :
		   boot_cpu_has(X86_FEATURE_SVM) ? &dune_svm_ops : NULL;
	if (!dune_ops) {
		pr_err("this CPU offers neither VT-x nor SVM (or the firmware turned it off)\n");
		return -ENODEV;
	}
	return dune_ops->check();
}

static int __init dune_init(void)
{
	int ret = dune_pick_ops();

	if (!ret)
		ret = dune_ops->setup();
	if (ret)
		return ret;
	ret = dune_cpu_init();
	if (ret)
		goto err_setup;
	ret = dune_vm_init();
	if (ret)
		goto err_cpu;
	dune_stats_init();
	dune_ksyms_init();
	static_call_update(dune_enter, dune_ops->enter);
	ret = misc_register(&dune_dev);
	if (ret)
		goto err_stats;

	pr_info("%s, %d guest-physical bits, %d second-stage levels\n",
		dune_ops->name, dune_ops->gpa_bits, dune_ops->levels);
	return 0;

err_stats:
	dune_stats_exit();
	dune_vm_exit();
err_cpu:
	dune_cpu_exit();
err_setup:
	dune_ops->teardown();
	return ret;
}

static void __exit dune_exit(void)
{
	misc_deregister(&dune_dev);
	dune_stats_exit();
	dune_vm_exit();
	dune_cpu_exit();
	dune_ops->teardown();
}

module_init(dune_init);
module_exit(dune_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Processes in guest mode: safe access to privileged CPU features");
