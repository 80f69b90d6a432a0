// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: a kernel thread follows a null pointer and dies; the guest lives.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>

static struct task_struct *thread;

static noinline int alarm_thread(void *nowhere)
{
	msleep(100);	/* insmod has come back: the oops is nobody's but the thread's */
	*(volatile int *)nowhere = 42;
	return 0;
}

static int __init ring_init(void)
{
	thread = kthread_run(alarm_thread, NULL, "alarm_oops");
	return PTR_ERR_OR_ZERO(thread);
}

static void __exit ring_exit(void)
{
}

module_init(ring_init);
module_exit(ring_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: a kernel thread follows a null pointer and dies");
