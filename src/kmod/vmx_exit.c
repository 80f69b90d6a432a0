// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-x: one round in guest mode, what it takes from the host and gives back,
 * and what the exit was.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <asm/desc.h>
#include <asm/fsgsbase.h>
#include <asm/perf_event.h>
#include <asm/tlbflush.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "dune.h"
#include "vmx.h"

/* Not in asm/vmx.h: SDM appendix C */
#define EXIT_GETSEC	11
#define EXIT_RSM	17

/* SDM table 27-7: bits 2:0 are those of an entry. */
static void decode_ept(struct dune_exit *x)
{
	x->stat = DUNE_STAT_FAULT;
	x->gpa = vmcs_read(GUEST_PHYSICAL_ADDRESS);
	x->access = vmx_leaf_access(x->hw_info);
	if (x->cpl == 3)
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
		vmx_set_cr0(v, v->cr0 & ~X86_CR0_TS);
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
	for (i = 0; i < NR_MSRS && msr != vmx_own_msrs[i]; i++)
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
static void decode_exit(struct dune_vcpu *vcpu)
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
		decode_ept(x);
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
	const u64 eptp[] = { vmx_eptp(vcpu->vm), 0 };
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
	char *p = vmx_l1d_pages, *end = p + L1D_SIZE;

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
	if (vmx_has_debugctl)
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
	if (vmx_ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL) {
		rdmsrq(MSR_CORE_PERF_GLOBAL_CTRL, val);
		vmcs_update(HOST_IA32_PERF_GLOBAL_CTRL, &v->host_perf, val);
	}

	for (i = 0; i < NR_MSRS; i++)
		if (v->msr[i] != c->msr[i])
			wrmsrq(vmx_own_msrs[i], v->msr[i]);
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
			wrmsrq(vmx_own_msrs[i], c->msr[i]);
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

void vmx_enter(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	unsigned int flags = vmx_clear_buffers ? VMX_ENTER_VERW : 0;
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
	if (vmx_l1d_flush)
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
	v->rip = vmcs_read(GUEST_RIP);
	v->rsp = vmcs_read(GUEST_RSP);
	v->rflags = vmcs_read(GUEST_RFLAGS);
	vcpu->regs.rip = v->rip;
	vcpu->regs.rsp = v->rsp;
	vcpu->regs.rflags = v->rflags;
	x->cpl = VMX_AR_DPL(vmcs_read(GUEST_SS_AR_BYTES));
	decode_exit(vcpu);
}
