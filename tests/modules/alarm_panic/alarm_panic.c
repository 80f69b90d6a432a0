// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: panics.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>

static int __init ring_init(void)
{
	panic("alarm: a panic on request");
	return 0;
}

module_init(ring_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: panics");
