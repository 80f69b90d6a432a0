// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: warns, and the guest goes on.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/module.h>

static int __init ring_init(void)
{
	WARN(1, "alarm: a warning on request\n");
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: warns");
