// SPDX-License-Identifier: GPL-2.0-only
/*
 * Turning VMX or SVM on while there are users, and off after the last.
 *
 * Up to 7.0 the kernel has no owner for these extensions: whoever finds the
 * enable bit clear may set it.  KVM does the same and refuses to start a
 * virtual machine while somebody else has the bit; so does Dune.  Holding
 * it only while a Dune process lives leaves KVM free the rest of the time.
 * Since 7.1 the kernel counts its users, and both may be on at once.
 *
 * cpu_mutex comes before cpus_read_lock().
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/reboot.h>
#include <linux/smp.h>
#include <linux/suspend.h>

#include "compat.h"
#include "dune.h"

static DEFINE_MUTEX(cpu_mutex);
static unsigned int cpu_users;		/* cpu_mutex */
static int cpuhp_state;
DEFINE_PER_CPU(bool, dune_cpu_is_on);	/* its own CPU, IRQs off */
static bool cpus_asleep;		/* cpu_mutex */
static int cpu_error;			/* of a CPU that failed, 0 none did */

static void cpu_on(void *unused)
{
	int ret;

	if (__this_cpu_read(dune_cpu_is_on))
		return;
	ret = dune_ops->cpu_on();
	if (ret)
		WRITE_ONCE(cpu_error, ret);
	else
		__this_cpu_write(dune_cpu_is_on, true);
}

static void cpu_off(void *unused)
{
	if (!__this_cpu_read(dune_cpu_is_on))
		return;
	dune_ops->cpu_off();
	__this_cpu_write(dune_cpu_is_on, false);
}

/**
 * dune_cpu_get - become a user of the extension on all CPUs
 *
 * Return: 0, or -EBUSY when another hypervisor has it.
 */
int dune_cpu_get(void)
{
	int ret = 0;

	mutex_lock(&cpu_mutex);
	if (cpu_users || cpus_asleep)
		goto out;

	cpus_read_lock();
	cpu_error = 0;
	on_each_cpu(cpu_on, NULL, 1);
	ret = READ_ONCE(cpu_error);
	if (ret)
		on_each_cpu(cpu_off, NULL, 1);
	cpus_read_unlock();

	if (ret == -EBUSY)
		pr_info_ratelimited("%s is in use by another hypervisor: stop its virtual machines, or unload it (rmmod %s)\n",
				    dune_ops->name,
				    dune_ops->vendor == DUNE_VENDOR_VMX ? "kvm_intel" : "kvm_amd");
out:
	if (!ret)
		cpu_users++;
	mutex_unlock(&cpu_mutex);
	return ret;
}

void dune_cpu_put(void)
{
	mutex_lock(&cpu_mutex);
	if (!--cpu_users) {
		cpus_read_lock();
		on_each_cpu(cpu_off, NULL, 1);
		cpus_read_unlock();
	}
	mutex_unlock(&cpu_mutex);
}

/*
 * Hotplug callbacks run on the CPU concerned, in its hotplug thread, with
 * cpus_write_lock() held by the initiator: cpu_users cannot pass between 0
 * and 1 meanwhile since that needs cpus_read_lock().
 */
static int hotplug_online(unsigned int cpu)
{
	if (!READ_ONCE(cpu_users) || READ_ONCE(cpus_asleep))
		return 0;
	smp_call_function_single(cpu, cpu_on, NULL, 1);
	return per_cpu(dune_cpu_is_on, cpu) ? 0 : -EBUSY;
}

static int hotplug_offline(unsigned int cpu)
{
	return smp_call_function_single(cpu, cpu_off, NULL, 1);
}

/*
 * A machine that restarts by INIT with VMX on hangs: leave it before.  The
 * other CPUs may still run vCPUs; their next entry finds it off.
 */
static int cpu_reboot(struct notifier_block *nb, unsigned long val, void *v)
{
	on_each_cpu(cpu_off, NULL, 1);
	return NOTIFY_OK;
}

static struct notifier_block cpu_reboot_nb = { .notifier_call = cpu_reboot };

/*
 * The boot CPU comes back from sleep without the extension, unlike the others,
 * which go through hotplug: off before, on again when all are awake.
 */
static int cpu_sleep(struct notifier_block *nb, unsigned long val, void *v)
{
	mutex_lock(&cpu_mutex);
	cpus_asleep = val == PM_SUSPEND_PREPARE || val == PM_HIBERNATION_PREPARE ||
		      val == PM_RESTORE_PREPARE;
	if (cpu_users)
		on_each_cpu(cpus_asleep ? cpu_off : cpu_on, NULL, 1);
	mutex_unlock(&cpu_mutex);
	return NOTIFY_OK;
}

static struct notifier_block cpu_sleep_nb = { .notifier_call = cpu_sleep };

int dune_cpu_init(void)
{
	int ret = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "x86/dune:online",
					    hotplug_online, hotplug_offline);

	if (ret < 0)
		return ret;
	cpuhp_state = ret;
	register_reboot_notifier(&cpu_reboot_nb);
	register_pm_notifier(&cpu_sleep_nb);
	return 0;
}

void dune_cpu_exit(void)
{
	unregister_pm_notifier(&cpu_sleep_nb);
	unregister_reboot_notifier(&cpu_reboot_nb);
	cpuhp_remove_state_nocalls(cpuhp_state);
	WARN_ON(cpu_users);
}
