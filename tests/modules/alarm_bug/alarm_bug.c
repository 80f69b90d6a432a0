// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: BUG() in the process that loads the module, which dies; the guest lives.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/module.h>

static int __init ring_init(void)
{
	BUG();
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: BUG() in the process that loads the module");
