// SPDX-License-Identifier: GPL-2.0-only
/*
 * Intel VT-x.  References are to the Intel 64 and IA-32 Architectures
 * Software Developer's Manual, volume 3 (SDM), in the numbering that has VMX
 * in chapters 23 to 30.
 *
 * The VMCS switches control, segment and descriptor-table registers, RSP,
 * RIP, RFLAGS, EFER, DR7, DEBUGCTL, SYSENTER_* and PERF_GLOBAL_CTRL.
 * vmx_enter() switches general registers and CR2.  KERNEL_GS_BASE, the
 * system-call MSRs, user segments and the limits of GDT and TSS are lent to the
 * guest until the thread leaves DUNE_RUN or this CPU: the kernel itself has no
 * use for them.  FPU, XCR0, PKRU and TSC_AUX are the thread's own, inside and
 * outside.  All else exits and is refused.
 *
 * Speculation: a guest is a process and a virtual machine at once.
 *   L1TF            L1D is flushed before an entry as KVM does: by default
 *                   if anything was touched since the exit that may be another's
 *   MDS, TAA, RFDS  VERW right before entry
 *   Spectre v2      the return stack buffer is filled after the exit, legacy
 *                   IBRS set again; enhanced IBRS and retpolines need nothing
 *   BHI             branch history is overwritten after the exit
 *   ITLB multihit   no large second-stage pages (KVM: none executable)
 * WRMSR to SPEC_CTRL and PRED_CMD is refused: the guest runs with the host's
 * setting.  VMSCAPE needs nothing, guest and user mode being one process.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/module.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/apicdef.h>
#include <asm/cpu_entry_area.h>
#include <asm/desc.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>

#include "compat.h"
#include "dune.h"
#include "vmx.h"

/* Not in asm/vmx.h: SDM A.1; CR4 */
#define BASIC_TRUE_CTLS	BIT_ULL(55)
#define CR4_FRED	BIT_ULL(32)

#define RANDOM_EXITING	(SECONDARY_EXEC_RDRAND_EXITING | SECONDARY_EXEC_RDSEED_EXITING)

DEFINE_PER_CPU(struct vmx_cpu, vmx_cpu);
struct vmx_ctl vmx_ctl __ro_after_init;
const u32 vmx_own_msrs[NR_MSRS] = { MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK };
void *vmx_msr_bitmap, *vmx_l1d_pages;
bool vmx_clear_buffers __ro_after_init;
DEFINE_STATIC_KEY_FALSE(vmx_has_debugctl);

int vmx_l1d_flush __ro_after_init;
static char *l1d_flush = "auto";
module_param(l1d_flush, charp, 0444);
MODULE_PARM_DESC(l1d_flush, "VT-x on CPUs with L1TF: when to flush the L1 data cache before an entry: auto (as KVM would), never, cond, always");

/* enum vmx_l1d_flush_state */
static const char * const l1d_flush_modes[] = { "auto", "never", "cond", "always" };

static int missing(const char *what)
{
	pr_err("this CPU's VT-x lacks %s\n", what);
	return -ENODEV;
}

/*
 * Control bits that must be there, those taken where they exist, and those
 * that the CPU forces (SDM A.3: low half must-be-1, high half may-be-1).
 */
bool vmx_pick(u32 msr, u32 need, u32 want, u32 *bits)
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
	vmx_ctl.revision = basic & GENMASK(30, 0);
	if (basic & BASIC_TRUE_CTLS)
		t = MSR_IA32_VMX_TRUE_PINBASED_CTLS - MSR_IA32_VMX_PINBASED_CTLS;

	/* Interrupts end guest mode and stay pending: the host's IDT gets them. */
	if (!vmx_pick(MSR_IA32_VMX_PINBASED_CTLS + t,
		      PIN_BASED_EXT_INTR_MASK | PIN_BASED_NMI_EXITING, 0, &vmx_ctl.pin))
		return missing("exits on interrupts and NMIs");
	want = CPU_BASED_HLT_EXITING | CPU_BASED_MWAIT_EXITING | CPU_BASED_MONITOR_EXITING |
	       CPU_BASED_RDPMC_EXITING | CPU_BASED_CR8_LOAD_EXITING | CPU_BASED_CR8_STORE_EXITING |
	       CPU_BASED_MOV_DR_EXITING | CPU_BASED_UNCOND_IO_EXITING | CPU_BASED_RDTSC_EXITING |
	       CPU_BASED_INTR_WINDOW_EXITING | CPU_BASED_USE_MSR_BITMAPS |
	       CPU_BASED_ACTIVATE_SECONDARY_CONTROLS;
	if (!vmx_pick(MSR_IA32_VMX_PROCBASED_CTLS + t, want, 0, &vmx_ctl.cpu))
		return missing("MSR bitmaps, secondary controls or I/O exits");
	vmx_ctl.cpu &= ~(CPU_BASED_RDTSC_EXITING | CPU_BASED_INTR_WINDOW_EXITING);
	if (vmx_ctl.cpu & (CPU_BASED_CR3_LOAD_EXITING | CPU_BASED_CR3_STORE_EXITING))
		return missing("true controls: a guest cannot load CR3 by itself");

	/*
	 * What a process may execute must not be #UD inside: RDTSCP, RDPID,
	 * TPAUSE.  ENCLS would reach enclaves.  XSAVES stays off: at CPL 0 it
	 * would load supervisor state of the host (LBR, PASID, CET).
	 */
	want = SECONDARY_EXEC_ENABLE_VPID | SECONDARY_EXEC_ENCLS_EXITING | RANDOM_EXITING;
	if (boot_cpu_has(X86_FEATURE_RDTSCP) || boot_cpu_has(X86_FEATURE_RDPID))
		want |= SECONDARY_EXEC_ENABLE_RDTSCP;
	if (boot_cpu_has(X86_FEATURE_INVPCID))
		want |= SECONDARY_EXEC_ENABLE_INVPCID;
	if (boot_cpu_has(X86_FEATURE_WAITPKG))
		want |= SECONDARY_EXEC_ENABLE_USR_WAIT_PAUSE;
	if (!vmx_pick(MSR_IA32_VMX_PROCBASED_CTLS2,
		      SECONDARY_EXEC_ENABLE_EPT | SECONDARY_EXEC_WBINVD_EXITING, want,
		      &vmx_ctl.cpu2))
		return missing("EPT or WBINVD exits");
	vmx_ctl.random = vmx_ctl.cpu2 & RANDOM_EXITING;
	vmx_ctl.cpu2 &= ~RANDOM_EXITING;
	dune_vmx_ops.traps = DUNE_TRAP_RDTSC | DUNE_TRAP_CPUID |
			     (vmx_ctl.random ? DUNE_TRAP_RDRAND : 0);
	if (boot_cpu_has(X86_FEATURE_SGX) && !(vmx_ctl.cpu2 & SECONDARY_EXEC_ENCLS_EXITING))
		return missing("ENCLS exits, but the CPU has SGX");

	/*
	 * With arch perfmon v2 all counters stop in guest mode, so that no
	 * PEBS record goes to a guest's address.
	 */
	want = cpuid_eax(0) >= 0xa && (cpuid_eax(0xa) & 0xff) >= 2 &&
	       msr_works(MSR_CORE_PERF_GLOBAL_CTRL, 1);
	if (!vmx_pick(MSR_IA32_VMX_EXIT_CTLS + t,
		      VM_EXIT_HOST_ADDR_SPACE_SIZE | VM_EXIT_LOAD_IA32_EFER,
		      want ? VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL : 0, &vmx_ctl.exit))
		return missing("the exit control that loads EFER");
	want = vmx_ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL;
	if (!vmx_pick(MSR_IA32_VMX_ENTRY_CTLS + t,
		      VM_ENTRY_IA32E_MODE | VM_ENTRY_LOAD_IA32_EFER | VM_ENTRY_LOAD_DEBUG_CONTROLS,
		      want ? VM_ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL : 0, &vmx_ctl.entry))
		return missing("entry controls that load EFER and DR7");
	vmx_apic_check(t);
	return 0;
}

static int vmx_check_l1tf(void)
{
	u64 caps = 0;

	vmx_l1d_flush = match_string(l1d_flush_modes, ARRAY_SIZE(l1d_flush_modes), l1d_flush);
	if (vmx_l1d_flush < 0) {
		pr_err("l1d_flush=%s: it is auto, never, cond or always\n", l1d_flush);
		return -EINVAL;
	}
	if (vmx_l1d_flush == VMENTER_L1D_FLUSH_AUTO)
		vmx_l1d_flush = dune_l1d_flush_mode();
	/* A hypervisor below that flushes for us says so. */
	if (boot_cpu_has(X86_FEATURE_ARCH_CAPABILITIES))
		rdmsrq(MSR_IA32_ARCH_CAPABILITIES, caps);
	if (!boot_cpu_has_bug(X86_BUG_L1TF) || caps & ARCH_CAP_SKIP_VMENTRY_L1DFLUSH)
		vmx_l1d_flush = VMENTER_L1D_FLUSH_NEVER;
	else
		pr_info("this CPU has L1TF; flush of its L1 data cache before an entry: %s\n",
			l1d_flush_modes[vmx_l1d_flush]);
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

	vmx_clear_buffers = dune_clears_cpu_buffers();
	if (msr_works(MSR_IA32_DEBUGCTLMSR, DEBUGCTLMSR_BTF))
		static_branch_enable(&vmx_has_debugctl);
	return vmx_check_l1tf();
}

static void vmx_teardown(void)
{
	int cpu;

	preempt_notifier_dec();
	for_each_possible_cpu(cpu)
		free_page((unsigned long)per_cpu_ptr(&vmx_cpu, cpu)->vmxon);
	free_page((unsigned long)vmx_msr_bitmap);
	free_pages((unsigned long)vmx_l1d_pages, get_order(L1D_SIZE));
}

/* SDM 24.6.9: 1 KiB each for reads low, reads high, writes low, writes high. */
static void msr_allow(u32 msr, bool write)
{
	__clear_bit((msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0) +
		    (write ? 0x4000 : 0), vmx_msr_bitmap);
}

/* A VMXON region or a VMCS: 4 KiB at most, the revision first (SDM 24.2). */
void *vmx_alloc_vmcs(int node, gfp_t gfp)
{
	struct page *page = alloc_pages_node(node, gfp | __GFP_ZERO, 0);

	if (!page)
		return NULL;
	*(u32 *)page_address(page) = vmx_ctl.revision;
	return page_address(page);
}

static int vmx_setup(void)
{
	int cpu, i;

	preempt_notifier_inc();		/* for put() */
	vmx_msr_bitmap = (void *)__get_free_page(GFP_KERNEL);
	if (!vmx_msr_bitmap)
		goto nomem;
	memset(vmx_msr_bitmap, 0xff, PAGE_SIZE);
	for (i = 0; i < 2; i++) {
		msr_allow(MSR_FS_BASE, i);
		msr_allow(MSR_GS_BASE, i);
		msr_allow(MSR_KERNEL_GS_BASE, i);
	}
	/* Writes exit: they are rare, and reading back after each exit is not. */
	for (i = 0; i < NR_MSRS; i++)
		msr_allow(vmx_own_msrs[i], false);
	if (dune_vmx_ops.post) {
		msr_allow(APIC_BASE_MSR + (APIC_EOI >> 4), true);
		msr_allow(APIC_BASE_MSR + (APIC_SELF_IPI >> 4), true);
	}

	if (vmx_l1d_flush != VMENTER_L1D_FLUSH_NEVER && !boot_cpu_has(X86_FEATURE_FLUSH_L1D)) {
		vmx_l1d_pages = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO,
						     get_order(L1D_SIZE));
		if (!vmx_l1d_pages)
			goto nomem;
	}
	for_each_possible_cpu(cpu) {
		struct vmx_cpu *c = per_cpu_ptr(&vmx_cpu, cpu);

		INIT_LIST_HEAD(&c->loaded);
		c->mine = NO_VMCS;
		c->theirs = NO_VMCS;
		c->vmxon = vmx_alloc_vmcs(cpu_to_node(cpu), GFP_KERNEL);
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
	int ret;

	c->gdt.address = (unsigned long)get_current_gdt_ro();
	c->gdt.size = GDT_SIZE - 1;
	if (DUNE_SHARES_CPU) {
		ret = static_call(dune_virt_get)(X86_FEATURE_VMX);
		c->on = !ret;
		return ret;
	}
	if (__read_cr4() & X86_CR4_VMXE)
		return -EBUSY;
	/* Where Intel PT cannot trace in VMX operation, VMXON would fault. */
	dune_pt_handle_vmx(1);
	dune_cr4_set(X86_CR4_VMXE);
	c->on = VMX_INSN_PA("vmxon", c->vmxon);
	if (c->on)
		return 0;
	dune_cr4_clear(X86_CR4_VMXE);
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
	if (c->mine == __pa(v->vmcs))
		c->mine = NO_VMCS;
	list_del(&v->link);
	v->enter_flags &= ~VMX_ENTER_RESUME;
	smp_store_release(&v->cpu, -1);		/* pairs with vmx_unload_elsewhere() */
}

static void vmx_cpu_off(void)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *v, *next;

	list_for_each_entry_safe(v, next, &c->loaded, link)
		vmx_unload(v);
	c->on = false;
	if (DUNE_SHARES_CPU) {
		static_call_cond(dune_virt_put)(X86_FEATURE_VMX);
		return;
	}
	asm volatile("1: vmxoff\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b) : : : "memory");
	dune_cr4_clear(X86_CR4_VMXE);
	dune_pt_handle_vmx(0);
}

/* Only cpu_off() can come between, and then the call has nothing to do. */
void vmx_unload_elsewhere(struct vmx_vcpu *v, int here)
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
bool vmx_activate(struct vmx_vcpu *v)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	int cpu = smp_processor_id();
	u64 *theirs = &c->theirs;

	if (c->active == v)
		return true;
	if (!c->on || WARN_ON_ONCE(v->cpu != cpu && v->cpu != -1))
		return false;
	if (DUNE_SHARES_CPU &&
	    (!VMX_INSN("vmptrst %[pa]", [pa] "m" (*theirs)) || *theirs == c->mine))
		*theirs = NO_VMCS;
	if (!VMX_INSN_PA("vmptrld", v->vmcs)) {
		pr_err_ratelimited("VMPTRLD failed on CPU %d\n", cpu);
		return false;
	}
	c->mine = __pa(v->vmcs);
	c->active = v;
	if (v->cpu == -1) {
		v->cpu = cpu;
		list_add(&v->link, &c->loaded);
		v->vcpu->flush |= VCPU_FLUSH_TLB;
		write_host_cpu(cpu);
	}
	return true;
}

static void vmx_load(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);

	/* Should cpu_off() take it away now, vmx_enter() sees that. */
	if (v->cpu != smp_processor_id())
		vmx_unload_elsewhere(v, smp_processor_id());
}

/*
 * KVM loads a VMCS only where it believes another one to be the current one, and takes
 * one that it has done with out of every CPU by an interrupt: what was current is so
 * again before IRQs go on.
 */
void vmx_give_back(struct vmx_cpu *c)
{
	u64 *theirs = &c->theirs;

	if (!VMX_INSN("vmptrld %[pa]", [pa] "m" (*theirs)))
		pr_err_ratelimited("VMPTRLD of another's VMCS failed\n");
	*theirs = NO_VMCS;
	c->mine = NO_VMCS;
	c->active = NULL;
}

/* Begin a section in which VMREAD and VMWRITE reach the vCPU, with IRQs off. */
unsigned long vmx_get(struct dune_vcpu *vcpu)
{
	unsigned long flags;

	preempt_disable();
	vmx_load(vcpu);
	vcpu->last_cpu = -1;	/* where it was is not where it is */
	local_irq_save(flags);
	vmx_activate(to_vmx(vcpu));
	return flags;
}

/* End it. */
void vmx_done(unsigned long flags)
{
	vmx_leave();
	if (DUNE_SHARES_CPU)	/* another thread may load its own meanwhile */
		this_cpu_write(vmx_cpu.active, NULL);
	local_irq_restore(flags);
	preempt_enable();
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
	.put		= vmx_put,
	.read_cr	= vmx_read_cr,
	.write_cr	= vmx_write_cr,
	.make_leaf	= vmx_make_leaf,
	.make_table	= vmx_make_table,
	.leaf_access	= vmx_leaf_access,
	.leaf_bit	= EPT_LEAF_LARGE,
};
