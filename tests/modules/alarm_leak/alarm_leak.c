// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: allocates memory and forgets where.  kmemleak finds it at a later scan.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/slab.h>

#define LOST	16	/* an address or two may stay in a register or on a stack */

static noinline bool lose(void)
{
	return !!kmalloc(192, GFP_KERNEL);
}

static int __init ring_init(void)
{
	int i;

	for (i = 0; i < LOST; i++)
		if (!lose())
			return -ENOMEM;
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: loses memory");
