// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: reads memory that it has given back.  A kernel without KASAN says nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/module.h>
#include <linux/slab.h>

static noinline int read_again(const int *gone)
{
	return READ_ONCE(*gone);
}

static int __init ring_init(void)
{
	int *gone = kzalloc(sizeof(*gone), GFP_KERNEL);

	if (!gone)
		return -ENOMEM;
	kfree(gone);
	OPTIMIZER_HIDE_VAR(gone);	/* the compiler knows what kfree() is */
	read_again(gone);
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: reads freed memory");
