// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows CR4 and EFER of every CPU, which no user program can read: CR4 is not
 * an MSR.  The acceptance suite compares them before dune.ko was loaded and
 * after it was unloaded.
 *
 *	cat /sys/module/cpu_state/parameters/show
 */

#include <linux/cpu.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/smp.h>
#include <linux/sysfs.h>

#include <asm/msr-index.h>
#include <asm/special_insns.h>

struct state {
	unsigned long cr4;
	unsigned long efer;
};

static void read_state(void *data)
{
	struct state *state = data;
	unsigned int lo, hi;

	/* The register itself, not the kernel's shadow of it. */
	asm volatile("mov %%cr4, %0" : "=r"(state->cr4));
	/* RDMSR by hand: its wrappers change names between kernels. */
	asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MSR_EFER));
	state->efer = (unsigned long)hi << 32 | lo;
}

static int show_state(char *buffer, const struct kernel_param *param)
{
	struct state state;
	int cpu, used = 0;

	cpus_read_lock();
	for_each_online_cpu(cpu) {
		if (smp_call_function_single(cpu, read_state, &state, 1))
			continue;
		used += sysfs_emit_at(buffer, used, "cpu=%d cr4=%#lx efer=%#lx\n", cpu,
				      state.cr4, state.efer);
	}
	cpus_read_unlock();
	return used;
}

static const struct kernel_param_ops show_ops = {
	.get = show_state,
};
module_param_cb(show, &show_ops, NULL, 0400);
MODULE_PARM_DESC(show, "CR4 and EFER of every CPU");

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("CR4 and EFER of every CPU, for the acceptance suite");
