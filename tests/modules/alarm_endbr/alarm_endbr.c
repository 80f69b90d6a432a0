// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: an indirect call to where no ENDBR64 stands, behind the one of a
 * function.  With indirect branch tracking that is a #CP, and BUG() in the
 * process that loads the module; without, the call returns as any other.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/compiler.h>
#include <linux/module.h>

#define ENDBR_LENGTH	4

static noinline void target(void)
{
	pr_info("called\n");
}

static int __init ring_init(void)
{
	void (*volatile call)(void) = target;

	call = (void *)call + ENDBR_LENGTH;
	call();
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: an indirect call to where no ENDBR64 stands");
