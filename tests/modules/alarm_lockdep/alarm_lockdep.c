// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: takes two locks in one order and then in the other.  Nobody waits for
 * anybody; lockdep sees that somebody could.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(one);
static DEFINE_MUTEX(other);

static noinline void one_then_other(void)
{
	mutex_lock(&one);
	mutex_lock(&other);
	mutex_unlock(&other);
	mutex_unlock(&one);
}

static noinline void other_then_one(void)
{
	mutex_lock(&other);
	mutex_lock(&one);
	mutex_unlock(&one);
	mutex_unlock(&other);
}

static int __init ring_init(void)
{
	one_then_other();
	other_then_one();
	return 0;
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: two locks in two orders");
