// SPDX-License-Identifier: GPL-2.0-only
/*
 * VT-x: one round in guest mode, what it takes from the host and gives back,
 * and what the exit was.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <asm/desc.h>
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
	    ((msr == MSR_LSTAR || msr == MSR_CSTAR) && !dune_is_canonical(val)))
		return;
	to_vmx(vcpu)->msr[i] = val;
	wrmsrq(msr, val);	/* it is lent */
	answer(x, DUNE_INSN_SKIP);
}

static void decode_exception(struct dune_vcpu *vcpu, struct dune_exit *x)
{
	u32 info = vmcs_read(VM_EXIT_INTR_INFO), type = info & INTR_INFO_INTR_TYPE_MASK;

	if (type == INTR_TYPE_NMI_INTR) {
		x->stat = DUNE_STAT_NMI;
		vcpu->flush |= VCPU_FLUSH_L1D;
		/* Further NMIs wait for this handler's IRET (SDM 27.5.5). */
		asm volatile("int $2" : : : "memory");
		return;
	}
	x->stat = DUNE_STAT_EXCEPTION;
	x->vector = info & INTR_INFO_VECTOR_MASK;
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
	u32 info = vmcs_read(IDT_VECTORING_INFO_FIELD), type = info & VECTORING_INFO_TYPE_MASK;

	if (!(info & VECTORING_INFO_VALID_MASK))
		return;
	if (type == INTR_TYPE_EXT_INTR && to_vmx(vcpu)->apic)
		vmx_apic_take_back(to_vmx(vcpu)->apic, info & VECTORING_INFO_VECTOR_MASK);
	else if (type == INTR_TYPE_EXT_INTR)
		WRITE_ONCE(vcpu->irq, info & VECTORING_INFO_VECTOR_MASK);
	if (type != INTR_TYPE_HARD_EXCEPTION)
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
#define GP_EXITS	(BIT_ULL(EXIT_REASON_XSETBV) | BIT_ULL(EXIT_REASON_RDPMC) |	\
			 BIT_ULL(EXIT_REASON_RDTSC) | BIT_ULL(EXIT_REASON_RDTSCP) |	\
			 BIT_ULL(EXIT_REASON_RDRAND) | BIT_ULL(EXIT_REASON_RDSEED))
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
	case EXIT_REASON_INTERRUPT_WINDOW:
		vmcs_write(CPU_BASED_VM_EXEC_CONTROL, to_vmx(vcpu)->cpu_ctl);
		x->stat = DUNE_STAT_INTERRUPT;
		return;
	case EXIT_REASON_EXTERNAL_INTERRUPT:
		x->stat = DUNE_STAT_INTERRUPT;
		if (to_vmx(vcpu)->apic)
			x->vector = vmcs_read(VM_EXIT_INTR_INFO) & INTR_INFO_VECTOR_MASK;
		return;
	case EXIT_REASON_APIC_WRITE:	/* SELF_IPI, of an exception's vector: done (SDM 29.5) */
		answer(x, DUNE_INSN_SKIP);
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
static void entry_failed(struct dune_vcpu *vcpu, int err, u32 reason)
{
	struct dune_exit *x = &vcpu->exit;

	*x = (struct dune_exit) { .stat = DUNE_STAT_OTHER, .entry_failed = true };
	if (err) {
		x->hw_reason = err == VMX_FAILED ? vmcs_read(VM_INSTRUCTION_ERROR) : 0;
		pr_err_ratelimited("VM entry failed, VM-instruction error %u\n", x->hw_reason);
	} else if ((u16)reason == EXIT_REASON_MCE_DURING_VMENTRY) {
		asm volatile("int $18" : : : "memory");
		*x = (struct dune_exit) { .stat = DUNE_STAT_EXCEPTION, .vector = X86_TRAP_MC };
	} else {
		x->hw_reason = reason;
		x->hw_info = vmcs_read(EXIT_QUALIFICATION);
	}
	vmcs_write(VM_ENTRY_INTR_INFO_FIELD, 0);
}

static noinline void put_event(struct dune_event *ev)
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

/* An interrupt: now, or after the exit that says the guest takes one (SDM 26.7.5). */
static noinline void put_irq(struct dune_vcpu *vcpu, struct vmx_vcpu *v)
{
	const u64 shadow = GUEST_INTR_STATE_STI | GUEST_INTR_STATE_MOV_SS;

	if (v->apic)
		vmx_apic_sync(v->apic);
	else if (vcpu->event.valid || !(vcpu->regs.rflags & X86_EFLAGS_IF) ||
		 vmcs_read(GUEST_INTERRUPTIBILITY_INFO) & shadow)
		vmcs_write(CPU_BASED_VM_EXEC_CONTROL, v->cpu_ctl | CPU_BASED_INTR_WINDOW_EXITING);
	else
		vmcs_write(VM_ENTRY_INTR_INFO_FIELD,
			   xchg(&vcpu->irq, 0) | INTR_TYPE_EXT_INTR | INTR_INFO_VALID_MASK);
}

/*
 * Single-context covers the combined mappings of every VPID and PCID under
 * this EPTP (SDM 28.4.3.1), so no INVVPID is ever needed.
 */
static void flush_tlb(struct dune_vcpu *vcpu)
{
	const u64 eptp[] = { vmx_eptp(vcpu->vm), 0 };

	if (!VMX_INSN("invept %[desc], %[type]", [desc] "m" (eptp),
		      [type] "r" (VMX_EPT_EXTENT_CONTEXT + 0UL)))
		pr_err_ratelimited("INVEPT failed\n");
}

static void write_guest(struct dune_vcpu *vcpu, struct vmx_vcpu *v)
{
	vmcs_update(GUEST_RSP, &v->rsp, vcpu->regs.rsp);
	if (v->rip != vcpu->regs.rip || v->rflags != vcpu->regs.rflags) {
		vmcs_update(GUEST_RFLAGS, &v->rflags, vcpu->regs.rflags);
		v->rip = vcpu->regs.rip;
		vmcs_write(GUEST_RIP, v->rip);
		/* The shadow of STI or MOV SS does not reach past a skipped instruction. */
		if (unlikely(vmcs_read(GUEST_INTERRUPTIBILITY_INFO))) {
			vmcs_write(GUEST_INTERRUPTIBILITY_INFO, 0);
			vmcs_write(GUEST_PENDING_DBG_EXCEPTIONS, 0);
		}
	}
	if (unlikely(READ_ONCE(*v->irq)))
		put_irq(vcpu, v);
	if (vcpu->event.valid)
		put_event(&vcpu->event);
	if (native_read_cr2() != vcpu->cr2)
		native_write_cr2(vcpu->cr2);
}

/*
 * What a guest can read through L1TF is what the L1 data cache holds.  If it is
 * only the thread's own since the last flush, there is nothing to drop.
 */
static void flush_l1d(void)
{
	char *p = vmx_l1d_pages, *end = p + L1D_SIZE;

	if (vmx_l1d_flush == VMENTER_L1D_FLUSH_NEVER)
		return;
	if (!p) {
		native_wrmsrq(MSR_IA32_FLUSH_CMD, L1D_FLUSH);
		return;
	}
	/* A load of the end of one line and the beginning of the next brings both in. */
	#pragma GCC unroll 64
	for (p += 60; p < end; p += 128)
		READ_ONCE(*(u64 *)p);
	rmb();	/* LFENCE: the loads are done before the entry */
}

/* What is to be flushed; if nothing is, an interrupt was here. */
static noinline void flush(struct dune_vcpu *vcpu)
{
	if (vcpu->flush & VCPU_FLUSH_TLB)
		flush_tlb(vcpu);
	if (dune_interrupted_l1d() || vcpu->flush != VCPU_FLUSH_TLB)
		flush_l1d();
	vcpu->flush = vmx_l1d_flush == VMENTER_L1D_FLUSH_ALWAYS ? VCPU_FLUSH_L1D : 0;
}

/*
 * What an exit does not bring back as it was (SDM 27.5), and what the kernel
 * does without.  IRQs off.
 */
static noinline void vmx_lend(struct vmx_vcpu *v)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	int i;

	savesegment(ds, v->host_ds);
	savesegment(es, v->host_es);
	savesegment(fs, v->host_fs);
	savesegment(gs, v->host_gs);
	v->host_ldt = 0;
	vmcs_update(HOST_FS_BASE, &v->host_fs_base, native_rdmsrq(MSR_FS_BASE));

	v->host_kernel_gs_base = native_rdmsrq(MSR_KERNEL_GS_BASE);
	native_wrmsrq(MSR_KERNEL_GS_BASE, v->kernel_gs_base);
	/* Once, they stay as they are.  KVM has left nothing here: see HOST_WORK. */
	if (unlikely(!c->msr[0]))
		for (i = 0; i < NR_MSRS; i++)
			c->msr[i] = native_rdmsrq(vmx_own_msrs[i]);
	#pragma GCC unroll 4
	for (i = 0; i < NR_MSRS; i++)
		if (v->msr[i] != c->msr[i])
			native_wrmsrq(vmx_own_msrs[i], v->msr[i]);
	v->lent = true;
	v->vcpu->flush |= VCPU_FLUSH_L1D;	/* user space was here, or another thread */
}

/* IRQs off: the thread goes to user mode, or another one gets the CPU. */
notrace void vmx_put(struct dune_vcpu *vcpu)
{
	struct vmx_cpu *c = this_cpu_ptr(&vmx_cpu);
	struct vmx_vcpu *v = to_vmx(vcpu);
	int i;

	if (!v->lent)
		return;
	v->lent = false;
	if (DUNE_SHARES_CPU)	/* another thread may load its own meanwhile */
		c->active = NULL;
	#pragma GCC unroll 4
	for (i = 0; i < NR_MSRS; i++)
		if (v->msr[i] != c->msr[i])
			native_wrmsrq(vmx_own_msrs[i], c->msr[i]);
	load_gdt(&c->gdt);
	invalidate_tss_limit();
	if (v->host_ldt)
		asm volatile("lldt %0" : : "r" (v->host_ldt));

	/* Selectors: the VMCS takes none that has an RPL (SDM 26.2.3). */
	if (v->host_ds | v->host_es) {
		loadsegment(ds, v->host_ds);
		loadsegment(es, v->host_es);
	}
	if (v->host_fs) {
		loadsegment(fs, v->host_fs);
		wrmsrq(MSR_FS_BASE, v->host_fs_base);
	}
	v->kernel_gs_base = native_rdmsrq(MSR_KERNEL_GS_BASE);
	if (v->host_gs)
		load_gs_index(v->host_gs);
	native_wrmsrq(MSR_KERNEL_GS_BASE, v->host_kernel_gs_base);
}

static void leave_host(struct vmx_vcpu *v)
{
	unsigned int ldt;
	u64 val;

	if (unlikely(!v->lent))
		vmx_lend(v);
	/* Another thread that calls modify_ldt() loads it here by an interrupt. */
	asm volatile("sldt %0" : "=r" (ldt));
	if (unlikely(ldt))
		v->host_ldt = ldt;
	if (static_branch_unlikely(&vmx_has_debugctl))
		v->host_debugctl = native_rdmsrq(MSR_IA32_DEBUGCTLMSR);
	if (cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS))
		v->host_spec_ctrl = native_rdmsrq(MSR_IA32_SPEC_CTRL);

	vmcs_update(HOST_CR3, &v->host_cr3, __native_read_cr3());
	vmcs_update(HOST_CR4, &v->host_cr4, __read_cr4());
	if (vmx_ctl.exit & VM_EXIT_LOAD_IA32_PERF_GLOBAL_CTRL) {
		val = native_rdmsrq(MSR_CORE_PERF_GLOBAL_CTRL);
		vmcs_update(HOST_IA32_PERF_GLOBAL_CTRL, &v->host_perf, val);
	}
}

/* What the kernel itself wants back at once. */
static void back_to_host(struct vmx_vcpu *v)
{
	/* First, before any indirect branch. */
	if (cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS))
		native_wrmsrq(MSR_IA32_SPEC_CTRL, v->host_spec_ctrl);
	if (static_branch_unlikely(&vmx_has_debugctl) && v->host_debugctl)
		native_wrmsrq(MSR_IA32_DEBUGCTLMSR, v->host_debugctl);
}

static void enter(struct dune_vcpu *vcpu)
{
	struct vmx_vcpu *v = to_vmx(vcpu);
	struct dune_exit *x = &vcpu->exit;
	u32 reason;
	int err;

	if (this_cpu_read(vmx_cpu.active) != v && !vmx_activate(v)) {
		entry_failed(vcpu, VMX_FAULTED, 0);
		return;
	}
	write_guest(vcpu, v);
	leave_host(v);
	if (unlikely(vcpu->flush || dune_interrupted_l1d()))
		flush(vcpu);
	err = dune_vmx_enter(&vcpu->regs, &v->host_rsp, v->enter_flags);
	back_to_host(v);

	vcpu->cr2 = native_read_cr2();
	reason = err ? 0 : vmcs_read_exit(VM_EXIT_REASON);
	if (unlikely(err || reason & VMX_EXIT_REASONS_FAILED_VMENTRY)) {
		entry_failed(vcpu, err, reason);
		return;
	}
	v->enter_flags |= VMX_ENTER_RESUME;
	v->rip = vmcs_read_exit(GUEST_RIP);
	vcpu->regs.rip = v->rip;
	v->rsp = vmcs_read_exit(GUEST_RSP);
	vcpu->regs.rsp = v->rsp;
	v->rflags = vmcs_read_exit(GUEST_RFLAGS);
	vcpu->regs.rflags = v->rflags;
	x->cpl = VMX_AR_DPL(vmcs_read_exit(GUEST_SS_AR_BYTES));
	x->hw_reason = reason;
	if (likely(reason == EXIT_REASON_VMCALL)) {	/* nothing else matters then */
		x->stat = DUNE_STAT_HYPERCALL;
		x->insn_len = 3;
		return;
	}
	*x = (struct dune_exit) { .hw_reason = reason, .cpl = x->cpl };
	decode_exit(vcpu);
}

/* Called for each exit by static_call(): not even a place for a tracer. */
notrace void vmx_enter(struct dune_vcpu *vcpu)
{
	enter(vcpu);
	vmx_leave();
}
