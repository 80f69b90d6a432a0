// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-x: interrupts that reach a guest without an exit (SDM chapter 29).
 *
 * Whoever sends sets the vector's bit in the receiver's posted-interrupt descriptor,
 * then ON, and sends the notification vector to the CPU that is in guest mode for it,
 * if any: that CPU takes the bits over into its virtual APIC and delivers them as
 * RFLAGS.IF allows (SDM 29.6).  Where nobody was in guest mode the next entry does so.
 *
 *   sender:   PIR bit; ON (a full barrier); who runs where?
 *   receiver: vm->running (a full barrier); ON?; guest mode
 *
 * So one of the two sees the other.  Who finds ON set leaves it to the one who set it,
 * who is not preempted before he has notified.  A notification that comes too late, or
 * meets another vCPU, is answered by the host's handler of KVM's vector, or by a look
 * at an empty descriptor, and ON waits for the entry.  No device posts here: nobody
 * reads SN, NV and NDST.
 *
 * The guest ends an interrupt and sends one to itself by WRMSR to the x2APIC's EOI and
 * SELF_IPI, which this mode makes its own (SDM 29.5): the MSR bitmap lets both through,
 * so no VMCS may be without it.  Sending to others is an exit: for that the guest would
 * need the real ICR, and with it any vector on any CPU.  IPI virtualization, on newer
 * CPUs, has a table of the targets that are allowed; it is not used here.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/gfp.h>
#include <linux/module.h>
#include <asm/apic.h>
#include <asm/desc.h>

#include "compat.h"
#include "dune.h"
#include "vmx.h"

static_assert(sizeof(struct vmx_apic) <= PAGE_SIZE && offsetof(struct vmx_apic, pir) % 64 == 0);

static bool posted_interrupts = true;
module_param(posted_interrupts, bool, 0444);
MODULE_PARM_DESC(posted_interrupts, "VT-x: deliver interrupts to a running guest without an exit, where the CPU can (default: y)");

static u32 *apic_reg(struct vmx_apic *apic, int reg, u8 vector)
{
	return &apic->regs[(reg + vector / 32 * 16) / 4];
}

static int highest(struct vmx_apic *apic, int reg)
{
	int i;

	for (i = 7; i > 0 && !*apic_reg(apic, reg, i * 32); i--)
		;
	return i * 32 + max(fls(*apic_reg(apic, reg, i * 32)) - 1, 0);
}

/* Before an entry, IRQs off: take over what was posted while there was nobody to notify. */
void vmx_apic_sync(struct vmx_apic *apic)
{
	int i;

	xchg(&apic->on, 0);	/* a barrier: bits that are set from now on come with a new ON */
	for (i = 0; i < ARRAY_SIZE(apic->pir); i++)
		*apic_reg(apic, APIC_IRR, i * 32) |= xchg(&apic->pir[i], 0);
	vmcs_write(GUEST_INTR_STATUS, highest(apic, APIC_ISR) << 8 | highest(apic, APIC_IRR));
}

/* Return: whether the CPU is to be notified. */
static bool post(struct vmx_apic *apic, u8 vector)
{
	set_bit(vector, (unsigned long *)apic->pir);
	return !xchg(&apic->on, 1);
}

/* An exit cut its delivery short: it waits again, as if it had not begun (SDM 29.2.2). */
void vmx_apic_take_back(struct vmx_apic *apic, u8 vector)
{
	*apic_reg(apic, APIC_ISR, vector) &= ~BIT(vector % 32);
	post(apic, vector);
}

static bool vmx_post(struct dune_vcpu *vcpu, u8 vector)
{
	return post(to_vmx(vcpu)->apic, vector);
}

static void vmx_notify(struct dune_vcpu *vcpu, int cpu)
{
	if (cpu != smp_processor_id() && cpumask_test_cpu(cpu, vcpu->vm->running))
		apic->send_IPI(cpu, POSTED_INTR_VECTOR);
}

/* The exit acknowledged it, so the host's handler is called as the CPU would have. */
static void vmx_take_irq(u8 vector)
{
	struct desc_ptr idt;

	store_idt(&idt);
	dune_vmx_irq(gate_offset((gate_desc *)idt.address + vector));
}

/* All of it or nothing (SDM 26.2.1.1).  @t: distance to the true controls. */
void vmx_apic_check(u32 t)
{
	struct vmx_ctl c = vmx_ctl;

	/* KVM's notification vector is there if KVM can be. */
	if (!posted_interrupts || !IS_ENABLED(CONFIG_KVM) ||
	    !vmx_pick(MSR_IA32_VMX_PINBASED_CTLS + t, c.pin | PIN_BASED_POSTED_INTR, 0, &c.pin) ||
	    !vmx_pick(MSR_IA32_VMX_PROCBASED_CTLS + t, c.cpu | CPU_BASED_TPR_SHADOW, 0, &c.cpu) ||
	    !vmx_pick(MSR_IA32_VMX_PROCBASED_CTLS2, c.cpu2 | SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |
		      SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY, 0, &c.cpu2) ||
	    !vmx_pick(MSR_IA32_VMX_EXIT_CTLS + t, c.exit | VM_EXIT_ACK_INTR_ON_EXIT, 0, &c.exit))
		return;
	vmx_ctl = c;
	dune_vmx_ops.post = vmx_post;
	dune_vmx_ops.notify = vmx_notify;
	dune_vmx_ops.take_irq = vmx_take_irq;
}

/* The VMCS is current. */
void vmx_apic_init(struct vmx_vcpu *v)
{
	int i;

	vmcs_write(VIRTUAL_APIC_PAGE_ADDR, __pa(v->apic));
	vmcs_write(POSTED_INTR_DESC_ADDR, __pa(v->apic->pir));
	vmcs_write(POSTED_INTR_NV, POSTED_INTR_VECTOR);
	vmcs_write(GUEST_INTR_STATUS, 0);
	for (i = 0; i < 4; i++)		/* no EOI exits */
		vmcs_write(EOI_EXIT_BITMAP0 + 2 * i, 0);
}
