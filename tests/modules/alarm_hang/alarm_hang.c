// SPDX-License-Identifier: GPL-2.0-only
/*
 * On loading: turns interrupts off on every CPU and stays there.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/irqflags.h>
#include <linux/module.h>
#include <linux/smp.h>

/*
 * All CPUs but this one spin in the handler of an IPI, this one after it.
 * Nothing ends it but the machine's power switch.
 */
static noinline void alarm_spin(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static int __init ring_init(void)
{
	pr_alert("all CPUs stop now\n");
	smp_call_function(alarm_spin, NULL, 0);
	alarm_spin(NULL);
	return 0;
}

module_init(ring_init);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("test bench alarm: turns interrupts off on every CPU and stays there");
