// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: refuses to load.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>

static int __init ring_init(void)
{
	pr_err("refusing to load, on request\n");
	return -EOPNOTSUPP;
}

module_init(ring_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: refuses to load");
