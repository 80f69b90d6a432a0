// SPDX-License-Identifier: GPL-2.0-only
/*
 * /sys/kernel/debug/dune/vcpus: every vCPU with its exit counters, tid 0
 * until somebody uses it.  The owner sees the same numbers in the page at DUNE_MMAP_STATS.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/seq_file.h>

#include "compat.h"
#include "dune.h"

static const char * const stat_names[DUNE_STAT_NR] = {
	[DUNE_STAT_HYPERCALL]	= "hypercall",	[DUNE_STAT_INTERRUPT]	= "interrupt",
	[DUNE_STAT_NMI]		= "nmi",	[DUNE_STAT_FAULT]	= "fault",
	[DUNE_STAT_EXCEPTION]	= "exception",	[DUNE_STAT_CPUID]	= "cpuid",
	[DUNE_STAT_MSR]		= "msr",	[DUNE_STAT_IO]		= "io",
	[DUNE_STAT_CR]		= "cr",		[DUNE_STAT_DR]		= "dr",
	[DUNE_STAT_HLT]		= "hlt",	[DUNE_STAT_INSN]	= "insn",
	[DUNE_STAT_SHUTDOWN]	= "shutdown",	[DUNE_STAT_OTHER]	= "other",
};

static LIST_HEAD(vcpus);
static DEFINE_MUTEX(vcpus_mutex);	/* innermost: nothing is taken under it */
static struct dentry *dir;

void dune_stats_add(struct dune_vcpu *vcpu)
{
	mutex_lock(&vcpus_mutex);
	list_add_tail(&vcpu->link, &vcpus);
	mutex_unlock(&vcpus_mutex);
}

void dune_stats_del(struct dune_vcpu *vcpu)
{
	mutex_lock(&vcpus_mutex);
	list_del(&vcpu->link);
	mutex_unlock(&vcpus_mutex);
}

static int vcpus_show(struct seq_file *m, void *v)
{
	struct dune_vcpu *vcpu;
	int i;

	mutex_lock(&vcpus_mutex);
	list_for_each_entry(vcpu, &vcpus, link) {
		struct dune_stats *s = vcpu->stats;

		seq_printf(m, "tid %d runs %llu entries %llu guest_ticks %llu",
			   pid_nr(READ_ONCE(vcpu->owner)), s->runs, s->entries, s->guest_ticks);
		for (i = 0; i < DUNE_STAT_NR; i++)
			if (s->exit[i].count)
				seq_printf(m, " %s %llu/%llu", stat_names[i],
					   s->exit[i].count, s->exit[i].ticks);
		seq_putc(m, '\n');
	}
	mutex_unlock(&vcpus_mutex);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(vcpus);

void dune_stats_init(void)
{
	dir = debugfs_create_dir("dune", NULL);
	debugfs_create_file("vcpus", 0400, dir, NULL, &vcpus_fops);
}

void dune_stats_exit(void)
{
	debugfs_remove_recursive(dir);
}
