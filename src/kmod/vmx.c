// SPDX-License-Identifier: GPL-2.0-only
/*
 * Intel VT-x.  References are to the Intel 64 and IA-32 Architectures
 * Software Developer's Manual, volume 3 (SDM), in the numbering that has VMX
 * in chapters 23 to 30.
 *
 * The VMCS switches control, segment and descriptor-table registers, RSP,
 * RIP, RFLAGS, EFER, DR7, DEBUGCTL, SYSENTER_* and PERF_GLOBAL_CTRL.
 * vmx_enter() switches what it leaves out: general registers, CR2,
 * KERNEL_GS_BASE, the system-call MSRs.  FPU, XCR0, PKRU and TSC_AUX are the
 * thread's own, inside and outside.  All else exits and is refused.
 *
 * Speculation: a guest is a process and a virtual machine at once.
 *   L1TF            L1D is flushed before every entry (KVM: before most)
 *   MDS, TAA, RFDS  VERW right before entry
 *   Spectre v2      the return stack buffer is filled after the exit, legacy
 *                   IBRS set again; enhanced IBRS and retpolines need nothing
 *   BHI             branch history is overwritten after the exit
 *   ITLB multihit   no large second-stage pages (KVM: none executable)
 * WRMSR to SPEC_CTRL and PRED_CMD is refused: the guest runs with the host's
 * setting.  VMSCAPE needs nothing, guest and user mode being one process.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/idr.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>
#include <asm/vmx.h>

#include "compat.h"
#include "dune.h"
#include "vmx.h"

/* Not in asm/vmx.h: SDM appendix C, A.1; CR4 */
#define EXIT_GETSEC	11
#define EXIT_RSM	17
#define BASIC_TRUE_CTLS	BIT_ULL(55)
#define CR4_FRED	BIT_ULL(32)

#define AR_CODE64(dpl)	(0xa09b | (dpl) << 5)	/* SDM 24.4.1: access rights */
#define AR_DATA(dpl)	(0xc093 | (dpl) << 5)
#define AR_TSS64_BUSY	0x008b

#define EPT_LEAF_LARGE	BIT_ULL(7)
#define L1D_SIZE	(64 * 1024)	/* larger than any L1D that has L1TF */

/* System-call MSRs: the guest has its own, the VMCS does not hold them. */
static const u32 own_msrs[] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK };
static const size_t own_msrs_state[] = {	/* where dune_state has them */
	offsetof(struct dune_state, star), offsetof(struct dune_state, lstar),
	offsetof(struct dune_state, cstar), offsetof(struct dune_state, sfmask),
};

#define NR_MSRS		ARRAY_SIZE(own_msrs)

struct vmx_vcpu {
	void *vmcs;
	u16 vpid;
	bool launched;
	bool flush;		/* as vcpu->flush, for reasons found here */
	int cpu;		/* that may cache the VMCS; -1: it is in memory */
	struct list_head link;	/* vmx_cpu.loaded of that CPU */
	int cpl;		/* at the last exit */
	u64 cr0, cr4;		/* as the guest sees them */
	u64 msr[NR_MSRS], kernel_gs_base;
	/* What the VMCS has: a comparison costs less than a VMWRITE. */
	u64 rip, rsp, rflags;
	u64 host_rsp, host_cr3, host_cr4, host_fs_base, host_perf;
};

struct vmx_cpu {
	void *vmxon;			/* VMXON region */
	bool on;
	struct vmx_vcpu *active;	/* whose VMCS is current */
	struct list_head loaded;	/* whose VMCSs may be cached; IRQs off */
	u64 msr[NR_MSRS];		/* the host's */
};

static DEFINE_PER_CPU(struct vmx_cpu, vmx_cpu);
static DEFINE_IDA(vpids);
static struct {
	u32 revision, pin, cpu, cpu2, exit, entry;
} ctl __ro_after_init;
static void *msr_bitmap;	/* one policy for all */
static void *l1d_pages;		/* what is read where L1D cannot be flushed */
static bool clear_buffers __ro_after_init, has_debugctl __ro_after_init;

static bool l1d_flush = true;
module_param(l1d_flush, bool, 0444);
MODULE_PARM_DESC(l1d_flush, "VT-x on CPUs with L1TF: flush the L1 data cache before every entry (default: on)");

static struct vmx_vcpu *to_vmx(struct dune_vcpu *vcpu)
{
	return vcpu->arch;
}

/*
 * VMX instructions (SDM 30.3) fail by CF or ZF, and fault with #UD when VMX
 * is off: after the reboot notifier, or because somebody else turned it off
 * behind our back.  Neither may bring the host down.
 */
#define VMX_INSN(insn, operands...)				\
({								\
	bool failed;						\
								\
	asm volatile("stc\n"		/* for the fault */	\
		     "1: " insn "\n"				\
		     "2:\n" _ASM_EXTABLE(1b, 2b)		\
		     : "=@ccbe" (failed) : operands : "memory");	\
	!failed;						\
})

#define VMX_INSN_PA(insn, addr)					\
({								\
	u64 pa = __pa(addr);					\
								\
	VMX_INSN(insn " %[pa]", [pa] "m" (pa));			\
})

static void vmcs_write(unsigned long field, u64 val)
{
	if (!VMX_INSN("vmwrite %[val], %[field]", [field] "r" (field), [val] "rm" (val)))
		pr_err_ratelimited("VMWRITE of field 0x%lx failed\n", field);
}

/* Write @field if it is not @val already. */
static bool vmcs_update(unsigned long field, u64 *cached, u64 val)
{
	if (*cached == val)
		return false;
	*cached = val;
	vmcs_write(field, val);
	return true;
}

/* 0 where it fails: the destination is not written then. */
static u64 vmcs_read(unsigned long field)
{
	u64 val = 0;

	asm volatile("1: vmread %[field], %[val]\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : [val] "+r" (val) : [field] "r" (field));
	return val;
}

static int missing(const char *what)
{
	pr_err("this CPU's VT-x lacks %s\n", what);
	return -ENODEV;
}

/*
 * Control bits that must be there, those taken where they exist, and those
 * that the CPU forces (SDM A.3: low half must-be-1, high half may-be-1).
 */
static bool pick(u32 msr, u32 need, u32 want, u32 *bits)
{
	u32 must, may;

	rdmsr(msr, must, may);
	*bits = must | need | (want & may);
	return !(need & ~may);
}

/* Emulators let writes of MSRs that they lack vanish, and log every access. */
static bool msr_works(u32 msr, u64 bit)
{
	unsigned long flags;
	u64 old, val = 0;
	bool ok;

	local_irq_save(flags);
	ok = !rdmsrq_safe(msr, &old) && !wrmsrq_safe(msr, old ^ bit) &&
	     !rdmsrq_safe(msr, &val) && val == (old ^ bit);
	if (ok)
		wrmsrq(msr, old);
	local_irq_restore(flags);
	return ok;
}

static int vmx_check_controls(void)
{
	u32 want, t = 0;	/* distance to the true controls, SDM A.2 */
	u64 basic;

	rdmsrq(MSR_IA32_VMX_BASIC, basic);
	ctl.revision = basic & GENMASK(30, 0);
	if (basic & BASIC_TRUE_CTLS)
		t = MSR_IA32_VMX_TRUE_PINBASED_CTLS - MSR_IA32_VMX_PINBASED_CTLS;

	/* Interrupts end guest mode and stay pending: the host's IDT gets them. */
	if (!pick(MSR_IA32_VMX_PINBASED_CTLS + t,
		  PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING, 0, &ctl.pin))
		return missing("exits on interrupts and NMIs");
	if (!pick(MSR_IA32_VMX_PROCBASED_CTLS + t,
		  CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING |
		  CPU_BASED_MONITOR_EXITING | CPU_BASED_RDPMC_EXITING |
		  CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
		  CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING |
		  CPU_BASED_USE_MSR_BITMAPS | CPU_BASED_ACTIVATE_SECONDARY_CONTROLS,
		  0, &ctl.cpu))
		return missing("MSR bitmaps, secondary controls or I/O exits");
	if (ctl.cpu & (CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING))
		return missing("true controls: a guest cannot load CR3 by itself");

	/*
	 * What a process may execute must not be #UD inside: RDTSCP, RDPID,
	 * TPAUSE.  ENCLS would reach enclaves.  XSAVES stays off: at CPL 0 it
	 * would load supervisor state of the host (LBR, PASID, CET).
	 */
	want = SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_ENCLS_EXITING;
	if (boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID))
		want |= SECONDARY_EXEC_ENABLE_RDTSCP;
	if (boot_cpu_has(X86_FEATURE_INVPCID))
		want |= SECONDARY_EXEC_ENABLE_INVPCID;
	if (boot_cpu_has(X86_FEATURE_WAITPKG))
		want |= SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE;
	if (!pick(MSR_IA32_VMX_PROCBASED_CTLS2,
		  SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_WBINVD_EXITING,
		  want, &ctl.cpu2))
		return missing("EPT or WBINVD exits");
	if (boot_cpu_has(X86_FEATURE_SGX) && !(ctl.cpu2 & SECONDARY_EXEC_ENCLS_EXITING))
		return missing("ENCLS exits, but the CPU has SGX");

	/*
	 * With arch perfmon v2 all counters stop in guest mode, so that no
	 * PEBS record goes to a guest's address.
	 */
	want = cpuid_eax(0) >= 0xa && (cpuid_eax(0xa) & 0xff) >= 2 &&
	       msr_works(MSR_CORE_PERF_GLOBAL_CTRL, 1);
	if (!pick(MSR_IA32_VMX_EXIT_CTLS + t,
		  VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_EFER,
		  want ? VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL : 0, &ctl.exit))
		return missing("the exit control that loads EFER");
	want = ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL;
	if (!pick(MSR_IA32_VMX_ENTRY_CTLS + t,
		  VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_EFER |
		  VM_ENTRY_LOAD_DEBUG_CONTROLS,
		  want ? VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL : 0, &ctl.entry))
		return missing("entry controls that load EFER and DR7");
	return 0;
}

static int vmx_check(void)
{
	u64 val;
	int ret;

	if (rdmsrq_safe(MSR_IA32_FEAT_CTL, &val) || !(val & FEAT_CTL_LOCKED) ||
	    !(val & FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX)) {
		pr_err("VT-x is disabled by the firmware (IA32_FEATURE_CONTROL): enable it in its set-up\n");
		return -EOPNOTSUPP;
	}
	/* INT 2 gives an NMI to the host; FRED has no entry for it. */
	if (__read_cr4() & CR4_FRED) {
		pr_err("VT-x under FRED is not supported: boot with fred=off\n");
		return -EOPNOTSUPP;
	}
	ret = vmx_check_controls();
	if (ret)
		return ret;

	rdmsrq(MSR_IA32_VMX_EPT_VPID_CAP, val);		/* SDM A.10 */
	if (!(val & VMX_EPT_PAGE_WALK_4_BIT) || !(val & VMX_EPTP_WB_BIT))
		return missing("4-level write-back EPT");
	if (!(val & VMX_EPT_INVEPT_BIT) || !(val & VMX_EPT_EXTENT_CONTEXT_BIT))
		return missing("single-context INVEPT");
	dune_vmx_ops.levels = 4;
	dune_vmx_ops.gpa_bits = min_t(int, boot_cpu_data.x86_phys_bits, DUNE_MAX_GPA_BITS);
	dune_vmx_ops.max_map_level = boot_cpu_has_bug(X86_BUG_ITLB_MULTIHIT) ? 1 :
				     !(val & VMX_EPT_2MB_PAGE_BIT) ? 1 :
				     !(val & VMX_EPT_1GB_PAGE_BIT) ? 2 : 3;

	/* A hypervisor below that flushes for us says so. */
	val = 0;
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrq(MSR_IA32_ARCH_CAPABILITIES, val);
	if (!boot_cpu_has_bug(X86_BUG_L1TF) || val & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH)
		l1d_flush = false;
	clear_buffers = dune_clears_cpu_buffers();
	has_debugctl = msr_works(MSR_IA32_DEBUGCTLMSR, DEBUGCTLMSR_BTF);
	return 0;
}

static void vmx_teardown(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu_ptr(&vmx_cpu, cpu)->vmxon);
	free_page((unsigned long)msr_bitmap);
	free_pages((unsigned long)l1d_pages, get_order(L1D_SIZE));
	ida_destroy(&vpids);
}

/* SDM 24.6.9: 1 KiB each for reads low, reads high, writes low, writes high. */
static void msr_allow(u32 msr, bool write)
{
	__clear_bit((msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0) +
		    (write ? 0x4000 : 0), msr_bitmap);
}

/* A VMXON region or a VMCS: 4 KiB at most, the revision first (SDM 24.2). */
static void *alloc_vmcs(int node, gfp_t gfp)
{
	struct page *page = alloc_pages_node(node, gfp | __GFP_ZERO, 0);

	if (!page)
		return NULL;
	*(u32 *)page_address(page) = ctl.revision;
	return page_address(page);
}

static int vmx_setup(void)
{
	int cpu, i;

	msr_bitmap = (void *)__get_free_page(GFP_KERNEL);
	if (!msr_bitmap)
		goto nomem;
	memset(msr_bitmap, 0xff, PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		msr_allow(MSR_FS_BASE, i);
		msr_allow(MSR_GS_BASE, i);
		msr_allow(MSR_KERNEL_GS_BASE, i);
	}
	/* Writes exit: they are rare, and reading back after each exit is not. */
	for (i = 0; i < NR_MSRS; i++)
		msr_allow(own_msrs[i], false);

	if (l1d_flush && !boot_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		l1d_pages = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
						     get_order(L1D_SIZE));
		if (!l1d_pages)
			goto nomem;
	}
	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpu, cpu);

		INIT_LIST_HEAD(&c->loaded);
		c->vmxon = alloc_vmcs(cpu_to_node(cpu), GFP_KERNEL);
		if (!c->vmxon)
			goto nomem;
	}
	return 0;
nomem:
	vmx_teardown();
	return -ENOMEM;
}

static int vmx_cpu_on(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	int i;

	if (__read_cr4() & X86_CR4_VMXE)
		return -EBUSY;
	for (i = 0; i < NR_MSRS; i++)
		rdmsrq(own_msrs[i], c->msr[i]);

	/* Where Intel PT cannot trace in VMX operation, VMXON would fault. */
	dune_pt_handle_vmx(1);
	cr4_set_bits(X86_CR4_VMXE);
	c->on = VMX_INSN_PA("vmxon", c->vmxon);
	if (c->on)
		return 0;
	cr4_clear_bits(X86_CR4_VMXE);
	dune_pt_handle_vmx(0);
	pr_err_ratelimited("VMXON failed on CPU %d\n", smp_processor_id());
	return -EIO;
}

/* Put the VMCS back into memory if this CPU has it (SDM 24.11.1).  IRQs off. */
static void vmx_unload(void *arg)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *v = arg;

	if (v->cpu != smp_processor_id())
		return;
	if (!VMX_INSN_PA("vmclear", v->vmcs))
		pr_err_ratelimited("VMCLEAR failed on CPU %d\n", v->cpu);
	if (c->active == v)
		c->active = NULL;
	list_del(&v->link);
	v->launched = false;
	smp_store_release(&v->cpu, -1);		/* pairs with unload_elsewhere() */
}

static void vmx_cpu_off(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *v, *next;

	list_for_each_entry_safe(v, next, &c->loaded, link)
		vmx_unload(v);
	c->on = false;
	asm volatile("1: vmxoff\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b) : : : "memory");
	cr4_clear_bits(X86_CR4_VMXE);
	dune_pt_handle_vmx(0);
}

/* Only cpu_off() can come between, and then the call has nothing to do. */
static void unload_elsewhere(struct vmx_vcpu *v, int here)
{
	int cpu = smp_load_acquire(&v->cpu);	/* pairs with vmx_unload() */

	if (cpu >= 0 && cpu != here)
		smp_call_function_single(cpu, vmx_unload, v, 1);
}

/* Host state that may differ between CPUs. */
static void write_host_cpu(int cpu)
{
	static const u32 msrs[][2] = {
		{ MSR_GS_BASE,			HOST_GS_BASE },
		{ MSR_IA32_SYSENTER_CS,		HOST_IA32_SYSENTER_CS },
		{ MSR_IA32_SYSENTER_ESP,	HOST_IA32_SYSENTER_ESP },
		{ MSR_IA32_SYSENTER_EIP,	HOST_IA32_SYSENTER_EIP },
		{ MSR_EFER,			HOST_IA32_EFER },
	};
	u64 val;
	int i;

	vmcs_write(HOST_TR_BASE, (unsigned long)&get_cpu_entry_area(cpu)->tss.x86_tss);
	vmcs_write(HOST_GDTR_BASE, (unsigned long)get_current_gdt_ro());
	for (i = 0; i < ARRAY_SIZE(msrs); i++) {
		rdmsrq(msrs[i][0], val);
		vmcs_write(msrs[i][1], val);
	}
}

/* Make the VMCS this CPU's current one.  IRQs off, no other CPU has it. */
static bool vmx_activate(struct vmx_vcpu *v)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	int cpu = smp_processor_id();

	if (c->active == v)
		return true;
	if (!c->on || WARN_ON_ONCE(v->cpu != cpu && v->cpu != -1))
		return false;
	if (!VMX_INSN_PA("vmptrld", v->vmcs)) {
		pr_err_ratelimited("VMPTRLD failed on CPU %d\n", cpu);
		return false;
	}
	c->active = v;
	if (v->cpu == -1) {
		v->cpu = cpu;
		list_add(&v->link, &c->loaded);
		v->flush = true;
		write_host_cpu(cpu);
	}
	return true;
}

static void vmx_load(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	unsigned long flags;

	unload_elsewhere(v, smp_processor_id());
	local_irq_save(flags);
	vmx_activate(v);
	local_irq_restore(flags);
}

/* Begin a section in which VMREAD and VMWRITE reach the vCPU: preempt_enable() ends it. */
static void vmx_get(struct dune_vcpu *vcpu)
{
	preempt_disable();
	vmx_load(vcpu);
}

/*
 * SDM 24.6.11.  No accessed and dirty bits: nobody reads them, and with them
 * every walk of guest page tables is a write (SDM 28.3.3.2) that faults on
 * tables mapped for reading.
 */
static u64 make_eptp(struct dune_vm *vm)
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
		GUEST_SYSENTER_CS, GUEST_SYSENTER_ESP, GUEST_SYSENTER_EIP,
		GUEST_IA32_DEBUGCTL,
	};
	struct vmx_vcpu *v = to_vmx(vcpu);
	struct desc_ptr idt;
	int i;

	for (i = 0; i < ARRAY_SIZE(zero); i++)
		vmcs_write(zero[i], 0);

	vmcs_write(PIN_BASED_VM_EXEC_CONTROL, ctl.pin);
	vmcs_write(CPU_BASED_VM_EXEC_CONTROL, ctl.cpu);
	vmcs_write(SECONDARY_VM_EXEC_CONTROL,
		   v->vpid ? ctl.cpu2 : ctl.cpu2 & ~SECONDARY_EXEC_ENABLE_VPID);
	vmcs_write(VM_EXIT_CONTROLS, ctl.exit);
	vmcs_write(VM_ENTRY_CONTROLS, ctl.entry);
	/* #DB and #AC: see handle_exception() in vcpu.c.  #MC is the host's. */
	vmcs_write(EXCEPTION_BITMAP, BIT(X86_TRAP_DB) | BIT(X86_TRAP_AC) | BIT(X86_TRAP_MC));
	vmcs_write(MSR_BITMAP, __pa(msr_bitmap));
	vmcs_write(EPT_POINTER, make_eptp(vcpu->vm));
	if (v->vpid)
		vmcs_write(VIRTUAL_PROCESSOR_ID, v->vpid);
	if (ctl.cpu2 & SECONDARY_EXEC_ENCLS_EXITING)
		vmcs_write(ENCLS_EXITING_BITMAP, ~0ULL);
	if (ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL)
		vmcs_write(HOST_IA32_PERF_GLOBAL_CTRL, 0);
	if (ctl.entry & VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL)
		vmcs_write(GUEST_IA32_PERF_GLOBAL_CTRL, 0);
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

static void vmx_vcpu_free(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);

	unload_elsewhere(v, -1);
	if (v->vpid)
		ida_free(&vpids, v->vpid);
	free_page((unsigned long)v->vmcs);
	kfree(v);
}

static int vmx_vcpu_init(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v;
	int vpid = 0;

	v = kzalloc(sizeof(*v), GFP_KERNEL_ACCOUNT);
	if (!v)
		return -ENOMEM;
	v->vmcs = alloc_vmcs(numa_node_id(), GFP_KERNEL_ACCOUNT);
	if (!v->vmcs) {
		kfree(v);
		return -ENOMEM;
	}
	v->cpu = -1;
	vcpu->arch = v;
	/* VPID 0 is the host.  Without one each entry and exit flushes (SDM 28.4.3). */
	if (ctl.cpu2 & SECONDARY_EXEC_ENABLE_VPID)
		vpid = ida_alloc_range(&vpids, 1, VMX_NR_VPIDS - 1, GFP_KERNEL);
	v->vpid = max(vpid, 0);

	preempt_disable();
	VMX_INSN_PA("vmclear", v->vmcs);		/* SDM 24.11.3: before its first use */
	vmx_load(vcpu);
	init_vmcs(vcpu);
	preempt_enable();
	return 0;
}

/* PE, PG and NE are always on in VMX operation (SDM 23.8), as in dune.h. */
static void set_cr0(struct vmx_vcpu *v, u64 val)
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

static void vmx_set_state(struct dune_vcpu *vcpu, const struct dune_state *st)
{
	/* DPL 3 in data segments: a return to ring 3 keeps them. */
	int i, cpl = st->cs & 3, dpl[] = { 3, cpl, cpl, 3, 3, 3 };
	struct vmx_vcpu *v = to_vmx(vcpu);
	u64 val;

	vmx_get(vcpu);
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
	set_cr0(v, st->cr0);
	set_cr4(v, st->cr4);
	vmcs_write(GUEST_INTERRUPTIBILITY_INFO, 0);
	vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	preempt_enable();

	for (i = 0; i < NR_MSRS; i++)
		v->msr[i] = *(u64 *)((void *)st + own_msrs_state[i]);
	v->kernel_gs_base = st->kernel_gs_base;
	v->cpl = cpl;
	v->flush = true;
}

static void vmx_get_state(struct dune_vcpu *vcpu, struct dune_state *st)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	u64 val;
	int i;

	vmx_get(vcpu);
	for (i = 0; i < ARRAY_SIZE(state_fields); i++) {
		val = vmcs_read(state_fields[i].field);
		memcpy((void *)st + state_fields[i].offset, &val, state_fields[i].size);
	}
	preempt_enable();
	for (i = 0; i < NR_MSRS; i++)
		*(u64 *)((void *)st + own_msrs_state[i]) = v->msr[i];
	st->cr0 = v->cr0;
	st->cr4 = v->cr4;
	st->kernel_gs_base = v->kernel_gs_base;
}

static u64 vmx_read_cr(struct dune_vcpu *vcpu, int cr)
{
	u64 val;

	if (cr != 3)
		return cr ? to_vmx(vcpu)->cr4 : to_vmx(vcpu)->cr0;
	vmx_get(vcpu);
	val = vmcs_read(GUEST_CR3);
	preempt_enable();
	return val;
}

static void vmx_write_cr(struct dune_vcpu *vcpu, int cr, u64 val)
{
	vmx_get(vcpu);
	if (cr == 0)
		set_cr0(to_vmx(vcpu), val);
	else
		set_cr4(to_vmx(vcpu), val);
	preempt_enable();
	/* The instruction would have dropped what is cached (SDM 4.10.4.1). */
	to_vmx(vcpu)->flush = true;
}

static int vmx_cpl(struct dune_vcpu *vcpu)
{
	return to_vmx(vcpu)->cpl;
}

/*
 * SDM 28.3.2.  The memory type is fixed (IPAT): the guest's PAT must not make
 * an alias of another one.  Write without read would be a misconfiguration.
 */
static u64 vmx_make_leaf(u64 pa, u32 access, int level, bool uc)
{
	return pa | VMX_EPT_READABLE_MASK | VMX_EPT_IPAT_BIT |
	       (u64)(uc ? VMX_EPTP_MT_UC : VMX_EPTP_MT_WB) << VMX_EPT_MT_EPTE_SHIFT |
	       (access & DUNE_ACCESS_WRITE ? VMX_EPT_WRITABLE_MASK : 0) |
	       (access & DUNE_ACCESS_EXEC ? VMX_EPT_EXECUTABLE_MASK : 0) |
	       (level > 1 ? EPT_LEAF_LARGE : 0);
}

static u64 vmx_make_table(u64 pa)
{
	return pa | VMX_EPT_RWX_MASK;
}

static u32 vmx_leaf_access(u64 entry)
{
	return (entry & VMX_EPT_READABLE_MASK ? DUNE_ACCESS_READ : 0) |
	       (entry & VMX_EPT_WRITABLE_MASK ? DUNE_ACCESS_WRITE : 0) |
	       (entry & VMX_EPT_EXECUTABLE_MASK ? DUNE_ACCESS_EXEC : 0);
}

/* SDM table 27-7: bits 2:0 are those of an entry. */
static void decode_ept(struct vmx_vcpu *v, struct dune_exit *x)
{
	x->stat = DUNE_STAT_FAULT;
	x->gpa = vmcs_read(GUEST_PHYSICAL_ADDRESS);
	x->access = vmx_leaf_access(x->hw_info);
	if (v->cpl == 3)
		x->access |= DUNE_ACCESS_USER;
	x->gva_valid = x->hw_info & EPT_VIOLATION_GVA_IS_VALID;
	if (!x->gva_valid)
		return;
	x->gva = vmcs_read(GUEST_LINEAR_ADDRESS);
	if (!(x->hw_info & EPT_VIOLATION_GVA_TRANSLATED))
		x->access |= DUNE_ACCESS_WALK;
}

/* An exception, or DUNE_INSN_SKIP for what is done or has nothing to do. */
static void answer(struct dune_exit *x, u8 vector)
{
	x->stat = DUNE_STAT_INSN;
	x->vector = vector;
}

/* SDM tables 27-3 and 27-4 agree but for CLTS and LMSW; LMSW is refused. */
static void decode_mov(struct vmx_vcpu *v, struct dune_exit *x)
{
	u32 type = (x->hw_info >> 4) & 3;

	x->cr = x->hw_info & 15;
	x->gpr = (x->hw_info >> 8) & 15;
	x->write = type == 0;
	x->decoded = type <= 1;
	if (type == 2) {		/* CLTS */
		set_cr0(v, v->cr0 & ~X86_CR0_TS);
		answer(x, DUNE_INSN_SKIP);
	}
}

/* What the guest owns is written here, the rest is common code's to judge. */
static void decode_wrmsr(struct dune_vcpu *vcpu, struct dune_exit *x)
{
	u64 val = (u32)vcpu->regs.rax | vcpu->regs.rdx << 32;
	u32 msr = vcpu->regs.rcx;
	int i;

	x->write = true;
	for (i = 0; i < NR_MSRS && msr != own_msrs[i]; i++)
		;
	if (i == NR_MSRS || (msr == MSR_SYSCALL_MASK && val >> 32) ||
	    ((msr == MSR_LSTAR || msr == MSR_CSTAR) && sign_extend64(val, 47) != val))
		return;
	to_vmx(vcpu)->msr[i] = val;
	answer(x, DUNE_INSN_SKIP);
}

static void decode_exception(struct dune_vcpu *vcpu, struct dune_exit *x)
{
	u32 info = vmcs_read(VM_EXIT_INTR_INFO), type = info & INTR_INFO_INTR_TYPE_MASK;

	if (type == INTR_TYPE_NMI_INTR) {
		x->stat = DUNE_STAT_NMI;
		/* Further NMIs wait for this handler's IRET (SDM 27.5.5). */
		asm volatile("int $2" : : : "memory");
		return;
	}
	x->stat = DUNE_STAT_EXCEPTION;
	x->vector = info & INTR_INFO_VECTOR_MASK;
	x->has_error_code = info & INTR_INFO_DELIVER_CODE_MASK;
	if (x->has_error_code)
		x->error_code = vmcs_read(VM_EXIT_INTR_ERROR_CODE);
	if (x->vector == X86_TRAP_MC)
		asm volatile("int $18" : : : "memory");
	if (x->vector != X86_TRAP_DB)
		return;
	x->hw_info = vmcs_read(EXIT_QUALIFICATION);
	x->dr6 = x->hw_info;
	/* INT1 is a trap: its handler returns to what is behind it. */
	if (type == INTR_TYPE_PRIV_SW_EXCEPTION)
		vcpu->regs.rip += vmcs_read(VM_EXIT_INSTRUCTION_LEN);
}

/*
 * An exit in the middle of a delivery: deliver again (SDM 27.2.4).  What
 * stems from an instruction (INT n, INT3, INTO, INT1) is executed again
 * instead: RIP still points at it.
 */
static void keep_event(struct dune_vcpu *vcpu)
{
	u32 info = vmcs_read(IDT_VECTORING_INFO_FIELD);

	if (!(info & VECTORING_INFO_VALID_MASK) ||
	    (info & VECTORING_INFO_TYPE_MASK) != INTR_TYPE_HARD_EXCEPTION)
		return;
	vcpu->event = (struct dune_event) {
		.valid = true,
		.vector = info & VECTORING_INFO_VECTOR_MASK,
		.type = DUNE_EVENT_EXCEPTION,
		.has_error_code = info & VECTORING_INFO_DELIVER_CODE_MASK,
	};
	if (vcpu->event.has_error_code)
		vcpu->event.error_code = vmcs_read(IDT_VECTORING_ERROR_CODE);
}

/* Instructions that exit (SDM appendix C): what they count as. */
static const u8 counted_exits[] = {
	[EXIT_REASON_CPUID]		= DUNE_STAT_CPUID,
	[EXIT_REASON_HLT]		= DUNE_STAT_HLT,
	[EXIT_REASON_IO_INSTRUCTION]	= DUNE_STAT_IO,
	[EXIT_REASON_MSR_READ]		= DUNE_STAT_MSR,
	[EXIT_REASON_MSR_WRITE]		= DUNE_STAT_MSR,
	[EXIT_REASON_CR_ACCESS]		= DUNE_STAT_CR,
	[EXIT_REASON_DR_ACCESS]		= DUNE_STAT_DR,
};

/* Those that are no-ops, #GP and #UD. */
#define SKIP_EXITS	(BIT_ULL(EXIT_REASON_INVD) | BIT_ULL(EXIT_REASON_WBINVD))
#define GP_EXITS	(BIT_ULL(EXIT_REASON_XSETBV) | BIT_ULL(EXIT_REASON_RDPMC))
#define UD_EXITS	(BIT_ULL(EXIT_GETSEC) | BIT_ULL(EXIT_RSM) |			\
			 GENMASK_ULL(EXIT_REASON_VMON, EXIT_REASON_VMCLEAR) |		\
			 BIT_ULL(EXIT_REASON_MWAIT_INSTRUCTION) |			\
			 BIT_ULL(EXIT_REASON_MONITOR_INSTRUCTION) |			\
			 BIT_ULL(EXIT_REASON_INVEPT) | BIT_ULL(EXIT_REASON_INVVPID) |	\
			 BIT_ULL(EXIT_REASON_VMFUNC) | BIT_ULL(EXIT_REASON_ENCLS))

static void decode_insn(struct dune_vcpu *vcpu, struct dune_exit *x, u16 reason)
{
	u64 bit = reason < 64 ? BIT_ULL(reason) : 0;

	x->insn_len = vmcs_read(VM_EXIT_INSTRUCTION_LEN);
	if (reason < ARRAY_SIZE(counted_exits) && counted_exits[reason])
		x->stat = counted_exits[reason];
	else if (bit & (SKIP_EXITS | GP_EXITS | UD_EXITS))
		answer(x, bit & SKIP_EXITS ? DUNE_INSN_SKIP :
			  bit & GP_EXITS ? X86_TRAP_GP : X86_TRAP_UD);
	else
		x->stat = DUNE_STAT_OTHER;

	if (x->stat == DUNE_STAT_CR || x->stat == DUNE_STAT_DR)
		decode_mov(to_vmx(vcpu), x);
	else if (reason == EXIT_REASON_MSR_WRITE)
		decode_wrmsr(vcpu, x);
}

/* IRQs off, the VMCS is current. */
static void decode_exit(struct dune_vcpu *vcpu, struct vmx_vcpu *v)
{
	struct dune_exit *x = &vcpu->exit;
	u16 reason = x->hw_reason;

	switch (reason) {
	case EXIT_REASON_VMCALL:
		x->stat = DUNE_STAT_HYPERCALL;
		x->insn_len = 3;
		return;
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		x->stat = DUNE_STAT_INTERRUPT;
		return;
	case EXIT_REASON_EXCEPTION_NMI:
		keep_event(vcpu);
		decode_exception(vcpu, x);
		return;
	case EXIT_REASON_TRIPLE_FAULT:
		x->stat = DUNE_STAT_SHUTDOWN;
		return;
	}

	x->hw_info = vmcs_read(EXIT_QUALIFICATION);
	if (reason == EXIT_REASON_EPT_VIOLATION) {
		keep_event(vcpu);
		decode_ept(v, x);
	} else {
		decode_insn(vcpu, x, reason);
	}
}

/* The CPU refused the VMCS: nothing ran (SDM 26.1, 26.8). */
static void entry_failed(struct dune_vcpu *vcpu, int err)
{
	struct dune_exit *x = &vcpu->exit;

	x->stat = DUNE_STAT_OTHER;
	x->entry_failed = true;
	if (err) {
		x->hw_reason = err == VMX_FAILED ? vmcs_read(VM_INSTRUCTION_ERROR) : 0;
		pr_err_ratelimited("VM entry failed, VM-instruction error %u\n", x->hw_reason);
	} else if ((u16)x->hw_reason == EXIT_REASON_MCE_DURING_VMENTRY) {
		asm volatile("int $18" : : : "memory");
		x->entry_failed = false;
		x->stat = DUNE_STAT_EXCEPTION;
		x->vector = X86_TRAP_MC;
	} else {
		x->hw_info = vmcs_read(EXIT_QUALIFICATION);
	}
	vmcs_write(VM_ENTRY_INTR_INFO_FIELD, 0);
}

static void put_event(struct dune_event *ev)
{
	u32 info = ev->vector | ev->type << 8 | INTR_INFO_VALID_MASK;

	if (ev->has_error_code) {
		info |= INTR_INFO_DELIVER_CODE_MASK;
		/* SDM 26.2.1.3: bits 31:15 must be 0 */
		vmcs_write(VM_ENTRY_EXCEPTION_ERROR_CODE, ev->error_code & 0x7fff);
	}
	vmcs_write(VM_ENTRY_INTR_INFO_FIELD, info);
	ev->valid = false;
}

static void write_guest(struct dune_vcpu *vcpu, struct vmx_vcpu *v)
{
	const u64 eptp[] = { make_eptp(vcpu->vm), 0 };
	bool moved = vmcs_update(GUEST_RIP, &v->rip, vcpu->regs.rip);

	moved |= vmcs_update(GUEST_RFLAGS, &v->rflags, vcpu->regs.rflags);
	vmcs_update(GUEST_RSP, &v->rsp, vcpu->regs.rsp);
	/* The shadow of STI or MOV SS does not reach past a skipped instruction. */
	if (moved && vmcs_read(GUEST_INTERRUPTIBILITY_INFO)) {
		vmcs_write(GUEST_INTERRUPTIBILITY_INFO, 0);
		vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
	}
	if (vcpu->event.valid)
		put_event(&vcpu->event);
	if (native_read_cr2() != vcpu->cr2)
		native_write_cr2(vcpu->cr2);

	/*
	 * Single-context covers the combined mappings of every VPID and PCID
	 * under this EPTP (SDM 28.4.3.1), so no INVVPID is ever needed.
	 */
	if ((vcpu->flush || v->flush) &&
	    !VMX_INSN("invept %[desc], %[type]", [desc] "m" (eptp),
		      [type] "r" (VMX_EPT_EXTENT_CONTEXT + 0UL)))
		pr_err_ratelimited("INVEPT failed\n");
	v->flush = false;
}

static void flush_l1d(void)
{
	char *p = l1d_pages, *end = p + L1D_SIZE;

	if (!p) {
		wrmsrq(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	for (; p < end; p += 4 * 64) {
		READ_ONCE(p[0]);
		READ_ONCE(p[64]);
		READ_ONCE(p[128]);
		READ_ONCE(p[192]);
	}
	rmb();	/* LFENCE: the loads are done before the entry */
}

/* What an exit does not bring back as it was (SDM 27.5). */
struct host_regs {
	u16 ds, es, fs, gs, ldt;
	u64 kernel_gs_base, debugctl, spec_ctrl;
};

static void leave_host(struct vmx_vcpu *v, struct host_regs *h)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	u64 val;
	int i;

	savesegment(ds, h->ds);
	savesegment(es, h->es);
	savesegment(fs, h->fs);
	savesegment(gs, h->gs);
	store_ldt(h->ldt);
	rdmsrq(MSR_KERNEL_GS_BASE, h->kernel_gs_base);
	h->debugctl = 0;
	if (has_debugctl)
		rdmsrq(MSR_IA32_DEBUGCTLMSR, h->debugctl);
	if (cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS))
		rdmsrq(MSR_IA32_SPEC_CTRL, h->spec_ctrl);

	if (cpu_feature_enabled(X86_FEATURE_FSGSBASE))
		val = rdfsbase();
	else
		rdmsrq(MSR_FS_BASE, val);
	vmcs_update(HOST_FS_BASE, &v->host_fs_base, val);
	vmcs_update(HOST_CR3, &v->host_cr3, __read_cr3());
	vmcs_update(HOST_CR4, &v->host_cr4, __read_cr4());
	if (ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL) {
		rdmsrq(MSR_CORE_PERF_GLOBAL_CTRL, val);
		vmcs_update(HOST_IA32_PERF_GLOBAL_CTRL, &v->host_perf, val);
	}

	for (i = 0; i < NR_MSRS; i++)
		if (v->msr[i] != c->msr[i])
			wrmsrq(own_msrs[i], v->msr[i]);
	if (v->kernel_gs_base != h->kernel_gs_base)
		wrmsrq(MSR_KERNEL_GS_BASE, v->kernel_gs_base);
}

static void back_to_host(struct vmx_vcpu *v, const struct host_regs *h)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	int i;

	/* First, before any indirect branch. */
	if (cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS))
		wrmsrq(MSR_IA32_SPEC_CTRL, h->spec_ctrl);

	for (i = 0; i < NR_MSRS; i++)
		if (v->msr[i] != c->msr[i])
			wrmsrq(own_msrs[i], c->msr[i]);
	rdmsrq(MSR_KERNEL_GS_BASE, v->kernel_gs_base);

	/* The limits of GDT and TSS, and the LDT. */
	load_fixmap_gdt(smp_processor_id());
	invalidate_tss_limit();
	if (h->ldt)
		asm volatile("lldt %0" : : "r" (h->ldt));

	/* Selectors: the VMCS takes none that has an RPL (SDM 26.2.3). */
	if (h->ds | h->es) {
		loadsegment(ds, h->ds);
		loadsegment(es, h->es);
	}
	if (h->fs) {
		loadsegment(fs, h->fs);
		wrmsrq(MSR_FS_BASE, v->host_fs_base);
	}
	if (h->gs)
		load_gs_index(h->gs);
	if (h->gs || v->kernel_gs_base != h->kernel_gs_base)
		wrmsrq(MSR_KERNEL_GS_BASE, h->kernel_gs_base);

	if (h->debugctl)
		wrmsrq(MSR_IA32_DEBUGCTLMSR, h->debugctl);
	if (hw_breakpoint_active())
		set_debugreg(__this_cpu_read(cpu_dr7), 7);
}

static void vmx_enter(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	unsigned int flags = clear_buffers ? VMX_ENTER_VERW : 0;
	struct dune_exit *x = &vcpu->exit;
	struct host_regs host;
	int err;

	*x = (struct dune_exit) { };
	if (!vmx_activate(v)) {
		entry_failed(vcpu, VMX_FAULTED);
		return;
	}
	write_guest(vcpu, v);
	leave_host(v, &host);
	if (l1d_flush)
		flush_l1d();
	if (v->launched)
		flags |= VMX_ENTER_RESUME;
	err = dune_vmx_enter(&vcpu->regs, &v->host_rsp, flags);
	back_to_host(v, &host);

	vcpu->cr2 = native_read_cr2();
	if (!err)
		x->hw_reason = vmcs_read(VM_EXIT_REASON);
	if (err || x->hw_reason & VMX_EXIT_REASONS_FAILED_VMENTRY) {
		entry_failed(vcpu, err);
		return;
	}
	v->launched = true;
	vcpu->regs.rip = v->rip = vmcs_read(GUEST_RIP);
	vcpu->regs.rsp = v->rsp = vmcs_read(GUEST_RSP);
	vcpu->regs.rflags = v->rflags = vmcs_read(GUEST_RFLAGS);
	v->cpl = VMX_AR_DPL(vmcs_read(GUEST_SS_AR_BYTES));
	decode_exit(vcpu, v);
}

struct dune_ops dune_vmx_ops __ro_after_init = {
	.name		= "VT-x",
	.vendor		= DUNE_VENDOR_VMX,
	.check		= vmx_check,
	.setup		= vmx_setup,
	.teardown	= vmx_teardown,
	.cpu_on		= vmx_cpu_on,
	.cpu_off	= vmx_cpu_off,
	.vcpu_init	= vmx_vcpu_init,
	.vcpu_free	= vmx_vcpu_free,
	.set_state	= vmx_set_state,
	.get_state	= vmx_get_state,
	.load		= vmx_load,
	.enter		= vmx_enter,
	.read_cr	= vmx_read_cr,
	.write_cr	= vmx_write_cr,
	.cpl		= vmx_cpl,
	.make_leaf	= vmx_make_leaf,
	.make_table	= vmx_make_table,
	.leaf_access	= vmx_leaf_access,
	.leaf_bit	= EPT_LEAF_LARGE,
};
