// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-x: the VMCS of a vCPU, its system registers, the entries of the second
 * stage.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/idr.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/desc.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "dune.h"
#include "vmx.h"

#define AR_CODE64(dpl)	(0xa09b | (dpl) << 5)	/* SDM 24.4.1: access rights */
#define AR_DATA(dpl)	(0xc093 | (dpl) << 5)
#define AR_TSS64_BUSY	0x008b

/* Where dune_state has vmx_own_msrs[], in the same order. */
#define OWN_MSRS	offsetof(struct dune_state, star)
static_assert(offsetofend(struct dune_state, sfmask) - OWN_MSRS == NR_MSRS * sizeof(u64));

static DEFINE_IDA(vpids);

/*
 * SDM 24.6.11.  No accessed and dirty bits: nobody reads them, and with them
 * every walk of guest page tables is a write (SDM 28.3.3.2) that faults on
 * tables mapped for reading.
 */
u64 vmx_eptp(struct dune_vm *vm)
{
	return __pa(vm->root) | VMX_EPTP_MT_WB | VMX_EPTP_PWL_4;
}

/* What stays as it is for the VMCS's life. */
static void init_vmcs(struct dune_vcpu *vcpu)
{
	static const u16 zero[] = {
		PAGE_FAULT_ERROR_CODE_MASK, PAGE_FAULT_ERROR_CODE_MATCH,
		CR3_TARGET_COUNT, VM_EXIT_MSR_STORE_COUNT, VM_EXIT_MSR_LOAD_COUNT,
		VM_ENTRY_MSR_LOAD_COUNT, VM_ENTRY_INTR_INFO_FIELD,
		HOST_DS_SELECTOR, HOST_ES_SELECTOR, HOST_FS_SELECTOR, HOST_GS_SELECTOR,
		HOST_FS_BASE, HOST_CR3, HOST_CR4, GUEST_RSP, GUEST_RIP,
		GUEST_SYSENTER_CS, GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP, GUEST_IA32_DEBUGCTL,
	};
	struct vmx_vcpu *v = to_vmx(vcpu);
	struct desc_ptr idt;
	int i;

	for (i = 0; i < ARRAY_SIZE(zero); i++)
		vmcs_write(zero[i], 0);

	vmcs_write(PIN_BASED_VM_EXEC_CONTROL, vmx_ctl.pin);
	vmcs_write(VM_EXIT_CONTROLS, vmx_ctl.exit);
	vmcs_write(VM_ENTRY_CONTROLS, vmx_ctl.entry);
	/* #DB and #AC: see handle_exception() in vcpu.c.  #MC is the host's. */
	vmcs_write(EXCEPTION_BITMAP, BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC));
	vmcs_write(MSR_BITMAP, __pa(vmx_msr_bitmap));
	vmcs_write(EPT_POINTER, vmx_eptp(vcpu->vm));
	if (v->vpid)
		vmcs_write(VIRTUAL_PROCESSOR_ID, v->vpid);
	if (vmx_ctl.cpu2 & SECONDARY_EXEC_ENCLS_EXITING)
		vmcs_write(ENCLS_EXITING_BITMAP, ~0ULL);
	if (vmx_ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL)
		vmcs_write(HOST_IA32_PERF_GLOBAL_CTRL, 0);
	if (vmx_ctl.entry & VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL)
		vmcs_write(GUEST_IA32_PERF_GLOBAL_CTRL, 0);
	if (v->apic)
		vmx_apic_init(v);
	vmcs_write(VMCS_LINK_POINTER, ~0ULL);
	vmcs_write(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	vmcs_write(GUEST_DR7, DR7_FIXED_1);
	vmcs_write(GUEST_IA32_EFER, EFER_LME | EFER_LMA | EFER_SCE | EFER_NX);

	/* The host owns every bit: what the guest changes exits (SDM 24.6.6). */
	vmcs_write(CR0_GUEST_HOST_MASK, ~0ULL);
	vmcs_write(CR4_GUEST_HOST_MASK, ~0ULL);

	vmcs_write(HOST_CR0, read_cr0());
	vmcs_write(HOST_CS_SELECTOR, __KERNEL_CS);
	vmcs_write(HOST_SS_SELECTOR, __KERNEL_DS);
	vmcs_write(HOST_TR_SELECTOR, GDT_ENTRY_TSS * 8);
	store_idt(&idt);
	vmcs_write(HOST_IDTR_BASE, idt.address);
	vmcs_write(HOST_RIP, (unsigned long)dune_vmx_exit);
}

void vmx_vcpu_free(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);

	vmx_unload_elsewhere(v, -1);
	if (v->vpid)
		ida_free(&vpids, v->vpid);
	free_page((unsigned long)v->vmcs);
	free_page((unsigned long)v->apic);
	kfree(v);
}

int vmx_vcpu_init(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v;
	unsigned long flags;
	int vpid = 0;

	v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	if (!v)
		return -ENOMEM;
	vcpu->arch = v;
	v->vcpu = vcpu;
	v->cpu = -1;
	v->vmcs = vmx_alloc_vmcs(numa_node_id(), GFP_KERNEL_ACCOUNT);
	if (dune_vmx_ops.post)
		v->apic = (void *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!v->vmcs || (dune_vmx_ops.post && !v->apic))
		return -ENOMEM;
	v->irq = v->apic ? &v->apic->on : &vcpu->irq;
	v->enter_flags = vmx_clear_buffers ? VMX_ENTER_VERW : 0;
	/* VPID 0 is the host.  Without one each entry and exit flushes (SDM 28.4.3). */
	if (vmx_ctl.cpu2 & SECONDARY_EXEC_ENABLE_VPID)
		vpid = ida_alloc_range(&vpids, 1, VMX_NR_VPIDS - 1, GFP_KERNEL);
	v->vpid = max(vpid, 0);

	preempt_disable();
	VMX_INSN_PA("vmclear", v->vmcs);		/* SDM 24.11.3: before its first use */
	preempt_enable();
	flags = vmx_get(vcpu);
	init_vmcs(vcpu);
	vmx_done(flags);
	return 0;
}

/* PE, PG and NE are always on in VMX operation (SDM 23.8), as in dune.h. */
void vmx_set_cr0(struct vmx_vcpu *v, u64 val)
{
	v->cr0 = val;
	vmcs_write(GUEST_CR0, val);
	vmcs_write(CR0_READ_SHADOW, val);
}

/* Machine checks stay on; VMXE must be. */
static void set_cr4(struct vmx_vcpu *v, u64 val)
{
	v->cr4 = val;
	vmcs_write(GUEST_CR4, val | X86_CR4_VMXE | X86_CR4_MCE);
	vmcs_write(CR4_READ_SHADOW, val);
}

/* Fields that dune_state and the VMCS have alike. */
static const struct {
	u16 field;
	u8 offset, size;
} state_fields[] = {
#define STATE(f, m)	{ f, offsetof(struct dune_state, m), sizeof_field(struct dune_state, m) }
	STATE(GUEST_CR3, cr3), STATE(GUEST_FS_BASE, fs_base), STATE(GUEST_GS_BASE, gs_base),
	STATE(GUEST_GDTR_BASE, gdt_base), STATE(GUEST_GDTR_LIMIT, gdt_limit),
	STATE(GUEST_IDTR_BASE, idt_base), STATE(GUEST_IDTR_LIMIT, idt_limit),
	STATE(GUEST_TR_SELECTOR, tr), STATE(GUEST_TR_BASE, tr_base),
	STATE(GUEST_TR_LIMIT, tr_limit), STATE(GUEST_CS_SELECTOR, cs), STATE(GUEST_SS_SELECTOR, ss),
};

void vmx_set_state(struct dune_vcpu *vcpu, const struct dune_state *st)
{
	/* DPL 3 in data segments: a return to ring 3 keeps them. */
	int i, cpl = st->cs & 3, dpl[] = { 3, cpl, cpl, 3, 3, 3 };
	struct vmx_vcpu *v = to_vmx(vcpu);
	unsigned long flags;
	u64 val;

	flags = vmx_get(vcpu);
	for (i = 0; i < 6; i++) {	/* ES CS SS DS FS GS: flat */
		vmcs_write(GUEST_ES_SELECTOR + 2 * i, 0);
		vmcs_write(GUEST_ES_BASE + 2 * i, 0);
		vmcs_write(GUEST_ES_LIMIT + 2 * i, ~0U);
		vmcs_write(GUEST_ES_AR_BYTES + 2 * i, i == 1 ? AR_CODE64(cpl) : AR_DATA(dpl[i]));
	}
	vmcs_write(GUEST_LDTR_SELECTOR, 0);
	vmcs_write(GUEST_LDTR_AR_BYTES, VMX_AR_UNUSABLE_MASK);
	vmcs_write(GUEST_TR_AR_BYTES, AR_TSS64_BUSY);
	for (i = 0; i < ARRAY_SIZE(state_fields); i++) {
		val = 0;
		memcpy(&val, (void *)st + state_fields[i].offset, state_fields[i].size);
		vmcs_write(state_fields[i].field, val);
	}
	vmx_set_cr0(v, st->cr0);
	set_cr4(v, st->cr4);
	vmcs_write(GUEST_INTERRUPTIBILITY_INFO, 0);
	vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	v->cpu_ctl = vmx_ctl.cpu | (st->traps & DUNE_TRAP_RDTSC ? CPU_BASED_RDTSC_EXITING : 0);
	vmcs_write(CPU_BASED_VM_EXEC_CONTROL, v->cpu_ctl);
	val = vmx_ctl.cpu2 | (st->traps & DUNE_TRAP_RDRAND ? vmx_ctl.random : 0);
	vmcs_write(SECONDARY_VM_EXEC_CONTROL,
		   v->vpid ? val : val & ~(u64)SECONDARY_EXEC_ENABLE_VPID);
	vmx_done(flags);

	memcpy(v->msr, (void *)st + OWN_MSRS, sizeof(v->msr));
	v->kernel_gs_base = st->kernel_gs_base;
	vcpu->flush |= VCPU_FLUSH_TLB;
}

void vmx_get_state(struct dune_vcpu *vcpu, struct dune_state *st)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	unsigned long flags;
	u64 val;
	int i;

	flags = vmx_get(vcpu);
	for (i = 0; i < ARRAY_SIZE(state_fields); i++) {
		val = vmcs_read(state_fields[i].field);
		memcpy((void *)st + state_fields[i].offset, &val, state_fields[i].size);
	}
	vmx_done(flags);
	memcpy((void *)st + OWN_MSRS, v->msr, sizeof(v->msr));
	st->cr0 = v->cr0;
	st->cr4 = v->cr4;
	st->kernel_gs_base = v->kernel_gs_base;
}

u64 vmx_read_cr(struct dune_vcpu *vcpu, int cr)
{
	unsigned long flags;
	u64 val;

	if (cr != 3)
		return cr ? to_vmx(vcpu)->cr4 : to_vmx(vcpu)->cr0;
	flags = vmx_get(vcpu);
	val = vmcs_read(GUEST_CR3);
	vmx_done(flags);
	return val;
}

void vmx_write_cr(struct dune_vcpu *vcpu, int cr, u64 val)
{
	unsigned long flags = vmx_get(vcpu);

	if (cr == 0)
		vmx_set_cr0(to_vmx(vcpu), val);
	else if (cr == 7)
		vmcs_write(GUEST_DR7, val);
	else
		set_cr4(to_vmx(vcpu), val);
	vmx_done(flags);
}

/*
 * SDM 28.3.2.  The memory type is fixed (IPAT): the guest's PAT must not make
 * an alias of another one.  Write without read would be a misconfiguration.
 */
u64 vmx_make_leaf(u64 pa, u32 access, int level, bool uc)
{
	return pa | VMX_EPT_READABLE_MASK | VMX_EPT_IPAT_BIT |
	       (u64)(uc ? VMX_EPTP_MT_UC : VMX_EPTP_MT_WB) << VMX_EPT_MT_EPTE_SHIFT |
	       (access & DUNE_ACCESS_WRITE ? VMX_EPT_WRITABLE_MASK : 0) |
	       (access & DUNE_ACCESS_EXEC ? VMX_EPT_EXECUTABLE_MASK : 0) |
	       (level > 1 ? EPT_LEAF_LARGE : 0);
}

u64 vmx_make_table(u64 pa)
{
	return pa | VMX_EPT_RWX_MASK;
}

u32 vmx_leaf_access(u64 entry)
{
	return (entry & VMX_EPT_READABLE_MASK ? DUNE_ACCESS_READ : 0) |
	       (entry & VMX_EPT_WRITABLE_MASK ? DUNE_ACCESS_WRITE : 0) |
	       (entry & VMX_EPT_EXECUTABLE_MASK ? DUNE_ACCESS_EXEC : 0);
}
