// SPDX-License-Identifier: GPL-2.0-only
/*
 * AMD SVM.  References are to the AMD64 Architecture Programmer's Manual,
 * volume 2.  Optional features (NRIPS, decode assists, FlushByAsid) are used
 * where present and never needed: QEMU's TCG has none of them.
 */
#define pr_fmt(fmt) "dune: " fmt

#include <linux/gfp.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <asm/debugreg.h>
#include <asm/svm.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "dune.h"

#define MSRPM_SIZE	(2 * PAGE_SIZE)	/* APM 15.11 */
#define IOPM_SIZE	(3 * PAGE_SIZE)	/* APM 15.10.1 */
#define VM_CR_SVMDIS	BIT_ULL(4)	/* APM 15.30.1 */

#define NPT_ACCESSED	BIT_ULL(5)
#define NPT_DIRTY	BIT_ULL(6)

#define SEG_CODE64(dpl)	(0xa9b | (dpl) << 5)	/* APM 15.5.1: VMCB attributes */
#define SEG_DATA(dpl)	(0xc93 | (dpl) << 5)
#define SEG_TSS64_BUSY	0x08b

#define NPF_WRITE	BIT_ULL(1)
#define NPF_RSVD	BIT_ULL(3)
#define NPF_FETCH	BIT_ULL(4)
#define NPF_WALK	BIT_ULL(33)

struct svm_vcpu {
	struct vmcb *vmcb;
	u64 vmcb_pa;
	u64 asid_gen;		/* of the CPU in vcpu->last_cpu */
	u64 last_rip;		/* as the guest left it */
};

struct svm_cpu {
	void *hsave;		/* VMRUN's own save area */
	void *host_vmcb;	/* VMSAVE and VMLOAD of host state; VMRUN of it flushes TLBs */
	u64 host_pa;
	u64 asid_gen;
	u32 next_asid;
	u64 old_hsave;
	bool taken;		/* from KVM, see svm_take() */
	u64 tsc_ratio;		/* as KVM had it then */
};

static DEFINE_PER_CPU(struct svm_cpu, svm_cpu);
static u32 nr_asids;
static void *msrpm, *iopm;	/* all VMs share one policy */

static struct svm_vcpu *to_svm(struct dune_vcpu *vcpu)
{
	return vcpu->arch;
}

static int svm_check(void)
{
	u64 vm_cr;

	if (!boot_cpu_has(X86_FEATURE_NPT)) {
		pr_err("SVM without nested paging is not supported\n");
		return -ENODEV;
	}
	rdmsrq(MSR_VM_CR, vm_cr);
	if (vm_cr & VM_CR_SVMDIS) {
		pr_err("SVM is disabled by the firmware (VM_CR.SVMDIS): enable it in its set-up\n");
		return -EOPNOTSUPP;
	}
	nr_asids = cpuid_ebx(SVM_CPUID_FUNC);
	if (nr_asids < 2) {
		pr_err("this CPU has %u ASIDs, at least 2 are needed\n", nr_asids);
		return -ENODEV;
	}

	/* The nested table is walked in the host's own mode (APM 15.25.3). */
	dune_svm_ops.levels = __read_cr4() & X86_CR4_LA57 ? 5 : 4;
	dune_svm_ops.gpa_bits = min_t(int, boot_cpu_data.x86_phys_bits, DUNE_MAX_GPA_BITS);
	dune_svm_ops.max_map_level = boot_cpu_has(X86_FEATURE_GBPAGES) ? 3 : 2;
	return 0;
}

static void svm_free_cpus(void)
{
	int cpu;

	if (DUNE_SHARES_CPU)
		preempt_notifier_dec();
	for_each_possible_cpu(cpu) {
		free_page((unsigned long)per_cpu(svm_cpu.hsave, cpu));
		free_page((unsigned long)per_cpu(svm_cpu.host_vmcb, cpu));
	}
	free_pages((unsigned long)msrpm, get_order(MSRPM_SIZE));
	free_pages((unsigned long)iopm, get_order(IOPM_SIZE));
}

/*
 * A guest that ends with its first fetch, which finds nothing mapped: all that its
 * VMRUN does is to drop the TLB entries of all ASIDs.
 */
static void init_flush_vmcb(struct vmcb *vmcb)
{
	struct vmcb_control_area *c = &vmcb->control;

	c->intercepts[INTERCEPT_EXCEPTION] = ~0U;
	__set_bit(INTERCEPT_INTR, (unsigned long *)c->intercepts);
	__set_bit(INTERCEPT_NMI, (unsigned long *)c->intercepts);
	__set_bit(INTERCEPT_SHUTDOWN, (unsigned long *)c->intercepts);
	__set_bit(INTERCEPT_VMRUN, (unsigned long *)c->intercepts);
	c->int_ctl = V_INTR_MASKING_MASK;
	c->asid = 1;
	c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	c->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	c->nested_cr3 = __sme_set(page_to_phys(ZERO_PAGE(0)));
	vmcb->save.efer = EFER_SVME;
	vmcb->save.cr0 = X86_CR0_ET;
	vmcb->save.rflags = X86_EFLAGS_FIXED;
	vmcb->save.dr6 = DR6_RESERVED;
	vmcb->save.dr7 = DR7_FIXED_1;
}

static int svm_setup(void)
{
	/* What VMSAVE and VMLOAD switch is the guest's own. */
	static const u32 own_msrs[] = {
		MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
		MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK,
	};
	int cpu, i;

	if (DUNE_SHARES_CPU)
		preempt_notifier_inc();		/* for put() */
	msrpm = (void *)__get_free_pages(GFP_KERNEL, get_order(MSRPM_SIZE));
	iopm = (void *)__get_free_pages(GFP_KERNEL, get_order(IOPM_SIZE));
	if (!msrpm || !iopm)
		goto nomem;
	memset(msrpm, 0xff, MSRPM_SIZE);
	memset(iopm, 0xff, IOPM_SIZE);
	/* Two bits an MSR: read, write; those from 0xc0000000 on (APM 15.11). */
	for (i = 0; i < ARRAY_SIZE(own_msrs); i++)
		bitmap_clear(msrpm, 0x4000 + 2 * (own_msrs[i] - 0xc0000000), 2);

	for_each_possible_cpu(cpu) {
		struct svm_cpu *sc = per_cpu_ptr(&svm_cpu, cpu);

		sc->hsave = (void *)get_zeroed_page(GFP_KERNEL);
		sc->host_vmcb = (void *)get_zeroed_page(GFP_KERNEL);
		if (!sc->hsave || !sc->host_vmcb)
			goto nomem;
		sc->host_pa = __sme_set(__pa(sc->host_vmcb));
		init_flush_vmcb(sc->host_vmcb);
	}
	return 0;
nomem:
	svm_free_cpus();
	return -ENOMEM;
}

/*
 * Does KVM have this CPU, too?  Its save area is then in use, by which VMRUN may go for
 * us as well; when it lets go of the CPU, it leaves none.  IRQs off.
 */
static bool kvm_is_here(struct svm_cpu *sc)
{
	u64 own = __sme_set(__pa(sc->hsave)), hsave = native_rdmsrq(MSR_VM_HSAVE_PA);

	if (!hsave)
		native_wrmsrq(MSR_VM_HSAVE_PA, own);
	return hsave && hsave != own;
}

/*
 * KVM deals out the same ASIDs, and leaves its guest's TSC ratio: its TLB entries must
 * go before an entry of ours, and ours before it can run again, at svm_put().
 */
static void svm_take(struct dune_vcpu *vcpu, struct svm_cpu *sc)
{
	sc->taken = true;
	sc->next_asid = nr_asids;
	vcpu->flush |= VCPU_FLUSH_TLB;
	sc->tsc_ratio = SVM_TSC_RATIO_DEFAULT;
	if (boot_cpu_has(X86_FEATURE_TSCRATEMSR))
		sc->tsc_ratio = native_rdmsrq(MSR_AMD64_TSC_RATIO);
	if (sc->tsc_ratio != SVM_TSC_RATIO_DEFAULT)
		wrmsrq(MSR_AMD64_TSC_RATIO, SVM_TSC_RATIO_DEFAULT);
}

/* IRQs off: the thread goes to user mode, or another one gets the CPU. */
static void svm_put(struct dune_vcpu *vcpu)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct dune_regs regs = { };

	if (!sc->taken)
		return;
	sc->taken = false;
	if (kvm_is_here(sc) && __this_cpu_read(dune_cpu_is_on)) {
		if (sc->tsc_ratio != SVM_TSC_RATIO_DEFAULT)
			native_wrmsrq(MSR_AMD64_TSC_RATIO, sc->tsc_ratio);
		asm volatile("clgi" : : : "memory");
		dune_svm_enter(sc->host_pa, &regs, sc->host_pa);
		asm volatile("stgi" : : : "memory");
	}
}

static int svm_cpu_on(void)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	u64 efer;
	int ret;

	if (DUNE_SHARES_CPU) {
		ret = static_call(dune_virt_get)(X86_FEATURE_SVM);
		if (ret)
			return ret;
	} else {
		rdmsrq(MSR_EFER, efer);
		if (efer & EFER_SVME)
			return -EBUSY;
		wrmsrq(MSR_EFER, efer | EFER_SVME);
		rdmsrq(MSR_VM_HSAVE_PA, sc->old_hsave);
		wrmsrq(MSR_VM_HSAVE_PA, __sme_set(__pa(sc->hsave)));
	}

	/* Whatever used these ASIDs before: start with a flush of all. */
	sc->asid_gen++;
	sc->next_asid = nr_asids;
	return 0;
}

static void svm_cpu_off(void)
{
	u64 efer, hsave;

	if (DUNE_SHARES_CPU) {
		rdmsrq(MSR_VM_HSAVE_PA, hsave);
		if (hsave == __sme_set(__pa(this_cpu_read(svm_cpu.hsave))))
			wrmsrq(MSR_VM_HSAVE_PA, 0);
		static_call_cond(dune_virt_put)(X86_FEATURE_SVM);
		return;
	}
	wrmsrq(MSR_VM_HSAVE_PA, this_cpu_read(svm_cpu.old_hsave));
	rdmsrq(MSR_EFER, efer);
	wrmsrq(MSR_EFER, efer & ~EFER_SVME);
}

static int svm_vcpu_init(struct dune_vcpu *vcpu)
{
	static const u8 intercepts[] = {
		INTERCEPT_INTR, INTERCEPT_NMI, INTERCEPT_SMI, INTERCEPT_INIT, INTERCEPT_CPUID,
		INTERCEPT_RSM, INTERCEPT_INVD, INTERCEPT_WBINVD, INTERCEPT_HLT, INTERCEPT_INVLPGA,
		INTERCEPT_IOIO_PROT, INTERCEPT_MSR_PROT, INTERCEPT_TASK_SWITCH,
		INTERCEPT_FERR_FREEZE, INTERCEPT_SHUTDOWN, INTERCEPT_VMRUN, INTERCEPT_VMMCALL,
		INTERCEPT_VMLOAD, INTERCEPT_VMSAVE, INTERCEPT_STGI, INTERCEPT_CLGI,
		INTERCEPT_SKINIT, INTERCEPT_MONITOR, INTERCEPT_MWAIT, INTERCEPT_XSETBV,
		INTERCEPT_RDPMC, INTERCEPT_CR0_WRITE, INTERCEPT_CR4_WRITE,
		INTERCEPT_CR8_READ, INTERCEPT_CR8_WRITE, INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_DB,
		INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_AC, INTERCEPT_EXCEPTION_OFFSET + X86_TRAP_MC,
	};
	struct vmcb_control_area *c;
	struct svm_vcpu *svm;
	int i;

	svm = kzalloc(sizeof(*svm), GFP_KERNEL_ACCOUNT);
	if (!svm)
		return -ENOMEM;
	vcpu->arch = svm;
	svm->vmcb = (struct vmcb *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (!svm->vmcb)
		return -ENOMEM;
	svm->vmcb_pa = __sme_set(__pa(svm->vmcb));

	c = &svm->vmcb->control;
	for (i = 0; i < ARRAY_SIZE(intercepts); i++)
		__set_bit(intercepts[i], (unsigned long *)c->intercepts);
	c->intercepts[INTERCEPT_DR] = ~0U;
	c->iopm_base_pa = __sme_set(__pa(iopm));
	c->msrpm_base_pa = __sme_set(__pa(msrpm));
	c->int_ctl = V_INTR_MASKING_MASK;
	c->nested_ctl = SVM_NESTED_CTL_NP_ENABLE;
	c->nested_cr3 = __sme_set(__pa(vcpu->vm->root));
	return 0;
}

static void svm_vcpu_free(struct dune_vcpu *vcpu)
{
	free_page((unsigned long)to_svm(vcpu)->vmcb);
	kfree(vcpu->arch);
}

/* Fields that dune_state and the VMCB have alike. */
static const struct {
	u16 at;
	u8 offset, size;
} state_fields[] = {
#define STATE(f, m)	{ offsetof(struct vmcb_save_area, f), offsetof(struct dune_state, m),	\
			  sizeof_field(struct dune_state, m) }
	STATE(cr0, cr0), STATE(cr3, cr3), STATE(fs.base, fs_base), STATE(gs.base, gs_base),
	STATE(kernel_gs_base, kernel_gs_base), STATE(gdtr.base, gdt_base),
	STATE(gdtr.limit, gdt_limit), STATE(idtr.base, idt_base), STATE(idtr.limit, idt_limit),
	STATE(tr.selector, tr), STATE(tr.base, tr_base), STATE(tr.limit, tr_limit),
	STATE(star, star), STATE(lstar, lstar), STATE(cstar, cstar), STATE(sfmask, sfmask),
	STATE(cs.selector, cs), STATE(ss.selector, ss),
};

static void svm_set_state(struct dune_vcpu *vcpu, const struct dune_state *st)
{
	unsigned long *icpts = (unsigned long *)to_svm(vcpu)->vmcb->control.intercepts;
	struct vmcb_save_area *s = &to_svm(vcpu)->vmcb->save;
	struct vmcb_seg *seg = &s->es;
	int i, cpl = st->cs & 3;

	for (i = 0; i < 6; i++)		/* ES CS SS DS FS GS: flat */
		seg[i] = (struct vmcb_seg) { .attrib = SEG_DATA(3), .limit = ~0U };
	s->cs.attrib = SEG_CODE64(cpl);
	s->ss.attrib = SEG_DATA(cpl);
	s->tr.attrib = SEG_TSS64_BUSY;
	s->ldtr = (struct vmcb_seg) { };
	for (i = 0; i < ARRAY_SIZE(state_fields); i++)
		memcpy((void *)s + state_fields[i].at, (void *)st + state_fields[i].offset,
		       state_fields[i].size);
	s->cpl = cpl;
	s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NX | EFER_SVME;
	s->cr4 = st->cr4 | X86_CR4_MCE;
	s->dr6 = DR6_RESERVED;
	s->dr7 = vcpu->dr7;
	s->g_pat = 0x0007040600070406ULL;	/* power-up value, APM 7.8.2 */
	__assign_bit(INTERCEPT_RDTSC, icpts, st->traps & DUNE_TRAP_RDTSC);
	__assign_bit(INTERCEPT_RDTSCP, icpts, st->traps & DUNE_TRAP_RDTSC);
}

static void svm_get_state(struct dune_vcpu *vcpu, struct dune_state *st)
{
	struct vmcb_save_area *s = &to_svm(vcpu)->vmcb->save;
	int i;

	for (i = 0; i < ARRAY_SIZE(state_fields); i++)
		memcpy((void *)st + state_fields[i].offset, (void *)s + state_fields[i].at,
		       state_fields[i].size);
	st->cr4 = s->cr4 & ~X86_CR4_MCE;
}

/*
 * ASIDs are dealt out per CPU; when they run out all are flushed and a new
 * generation begins (APM 15.16).  A new ASID is also how one vCPU's entries
 * are flushed, since FlushByAsid may be missing.
 */
static void get_asid(struct dune_vcpu *vcpu)
{
	struct svm_cpu *sc = this_cpu_ptr(&svm_cpu);
	struct svm_vcpu *svm = to_svm(vcpu);
	struct vmcb_control_area *c = &svm->vmcb->control;

	c->tlb_ctl = TLB_CONTROL_DO_NOTHING;
	if (!(vcpu->flush & VCPU_FLUSH_TLB) && svm->asid_gen == sc->asid_gen)
		return;
	vcpu->flush = 0;
	if (sc->next_asid >= nr_asids) {
		sc->asid_gen++;
		sc->next_asid = 1;
		c->tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	}
	svm->asid_gen = sc->asid_gen;
	c->asid = sc->next_asid++;
}

static void put_event(struct dune_vcpu *vcpu, struct vmcb_control_area *c)
{
	struct dune_event *ev = &vcpu->event;

	/* The CPU takes it when the guest lets it, and clears V_IRQ (APM 15.21.4). */
	if (unlikely(READ_ONCE(vcpu->irq))) {
		c->int_vector = xchg(&vcpu->irq, 0);
		c->int_ctl |= V_IRQ_MASK | V_IGN_TPR_MASK;
	}
	c->event_inj = 0;
	if (!ev->valid)
		return;
	c->event_inj = ev->vector | ev->type << SVM_EVTINJ_TYPE_SHIFT | SVM_EVTINJ_VALID |
		       (ev->has_error_code ? SVM_EVTINJ_VALID_ERR : 0);
	c->event_inj_err = ev->error_code;
	ev->valid = false;
}

/*
 * An exit in the middle of a delivery: deliver again.  Those that stem from
 * an instruction (INT n, INT3, INTO) are executed again instead: RIP still
 * points at it.  (To QEMU's TCG an interrupt is an exception with its vector.)
 */
static void keep_event(struct dune_vcpu *vcpu, struct vmcb_control_area *c)
{
	u32 info = c->exit_int_info, type = info & SVM_EXITINTINFO_TYPE_MASK;
	u8 vector = info & SVM_EXITINTINFO_VEC_MASK;

	if (!(info & SVM_EXITINTINFO_VALID) || type == SVM_EXITINTINFO_TYPE_SOFT ||
	    type == SVM_EXITINTINFO_TYPE_NMI || vector == X86_TRAP_BP || vector == X86_TRAP_OF)
		return;
	if (vector >= 32) {
		WRITE_ONCE(vcpu->irq, vector);
		return;
	}
	vcpu->event = (struct dune_event) {
		.valid = true,
		.vector = vector,
		.type = DUNE_EVENT_EXCEPTION,
		.has_error_code = info & SVM_EXITINTINFO_VALID_ERR,
		.error_code = c->exit_int_info_err,
	};
}

static void decode_npf(struct dune_exit *x, struct vmcb *vmcb)
{
	u64 err = vmcb->control.exit_info_1;

	if (err & NPF_RSVD) {
		x->stat = DUNE_STAT_OTHER;
		return;
	}
	x->stat = DUNE_STAT_FAULT;
	x->gpa = vmcb->control.exit_info_2;
	x->access = err & NPF_WRITE ? DUNE_ACCESS_WRITE :
		    err & NPF_FETCH ? DUNE_ACCESS_EXEC : DUNE_ACCESS_READ;
	if (err & NPF_WALK)
		x->access |= DUNE_ACCESS_WALK;
	if (vmcb->save.cpl == 3)
		x->access |= DUNE_ACCESS_USER;
}

/* MOV to and from CR and DR; codes 0x00 to 0x3f (APM 15.8.1). */
static void decode_mov(struct dune_exit *x, u32 code, u64 info)
{
	x->stat = code < SVM_EXIT_READ_DR0 ? DUNE_STAT_CR : DUNE_STAT_DR;
	x->cr = code & 15;
	x->write = code & 16;
	x->gpr = info & 15;
	/* Bit 63 says MOV, as against CLTS, LMSW and SMSW. */
	x->decoded = boot_cpu_has(X86_FEATURE_DECODEASSISTS) &&
		     (x->stat == DUNE_STAT_DR || info >> 63);
	x->insn_len = 3 + (x->cr > 7 || x->gpr > 7);
}

static void decode_exception(struct dune_exit *x, struct vmcb *vmcb)
{
	x->stat = DUNE_STAT_EXCEPTION;
	x->vector = vmcb->control.exit_code - SVM_EXIT_EXCP_BASE;
	if (x->vector == X86_TRAP_DB) {
		x->dr6 = vmcb->save.dr6 & ~(u64)DR6_RESERVED;
		vmcb->save.dr6 = DR6_RESERVED;
	} else {
		x->error_code = vmcb->control.exit_info_1;
	}
}

/*
 * Exits that say all by their code (APM appendix C).  @vector: of
 * DUNE_STAT_INSN; @len: of the instruction in its plain form, for CPUs
 * without NRIPS, where it is to be skipped.
 */
static const struct {
	u8 stat, vector, len;
} plain_exits[] = {
#define UD	{ DUNE_STAT_INSN, X86_TRAP_UD }
#define GP	{ DUNE_STAT_INSN, X86_TRAP_GP }
#define SKIP	{ DUNE_STAT_INSN, DUNE_INSN_SKIP, 2 }
	[SVM_EXIT_INTR] = { DUNE_STAT_INTERRUPT },	[SVM_EXIT_SMI] = { DUNE_STAT_INTERRUPT },
	[SVM_EXIT_INIT] = { DUNE_STAT_INTERRUPT },	/* NMI: the host's at STGI */
	[SVM_EXIT_NMI] = { DUNE_STAT_NMI },
	[SVM_EXIT_SHUTDOWN] = { DUNE_STAT_SHUTDOWN },
	[SVM_EXIT_CPUID] = { DUNE_STAT_CPUID, 0, 2 },	[SVM_EXIT_MSR] = { DUNE_STAT_MSR, 0, 2 },
	[SVM_EXIT_HLT] = { DUNE_STAT_HLT, 0, 1 },	[SVM_EXIT_IOIO] = { DUNE_STAT_IO },
	[SVM_EXIT_INVD] = SKIP,		[SVM_EXIT_WBINVD] = SKIP,
	[SVM_EXIT_XSETBV] = GP,		[SVM_EXIT_RDPMC] = GP,		[SVM_EXIT_TASK_SWITCH] = GP,
	[SVM_EXIT_RDTSC] = GP,		[SVM_EXIT_RDTSCP] = GP,
	[SVM_EXIT_VMRUN] = UD,		[SVM_EXIT_VMLOAD] = UD,		[SVM_EXIT_VMSAVE] = UD,
	[SVM_EXIT_STGI] = UD,		[SVM_EXIT_CLGI] = UD,		[SVM_EXIT_SKINIT] = UD,
	[SVM_EXIT_INVLPGA] = UD,	[SVM_EXIT_MONITOR] = UD,	[SVM_EXIT_MWAIT] = UD,
	[SVM_EXIT_RSM] = UD,
};

static void decode_plain(struct dune_exit *x, u32 code)
{
	x->stat = DUNE_STAT_OTHER;
	if (code >= ARRAY_SIZE(plain_exits) || !plain_exits[code].stat)
		return;
	x->stat = plain_exits[code].stat;
	x->vector = plain_exits[code].vector;
	x->insn_len = plain_exits[code].len;
}

static void decode_exit(struct dune_vcpu *vcpu, struct vmcb *vmcb)
{
	struct vmcb_control_area *c = &vmcb->control;
	u32 code = c->exit_code;
	struct dune_exit *x = &vcpu->exit;
	u64 info = c->exit_info_1;

	*x = (struct dune_exit) {
		.hw_reason = code,
		.hw_info = info,
		.write = info & 1,	/* of an MSR exit */
		.cpl = vmcb->save.cpl,
	};
	if (code == SVM_EXIT_NPF)
		decode_npf(x, vmcb);
	else if (code >= SVM_EXIT_READ_CR0 && code <= SVM_EXIT_WRITE_DR0 + 15)
		decode_mov(x, code, info);
	else if (code >= SVM_EXIT_EXCP_BASE && code < SVM_EXIT_EXCP_BASE + 32)
		decode_exception(x, vmcb);
	else
		decode_plain(x, code);

	x->entry_failed = code == (u32)SVM_EXIT_ERR;
	if (x->insn_len && boot_cpu_has(X86_FEATURE_NRIPS))
		x->insn_len = min_t(u64, c->next_rip - vmcb->save.rip, 15);
}

static void svm_enter(struct dune_vcpu *vcpu)
{
	struct svm_vcpu *svm = to_svm(vcpu);
	struct dune_exit *x = &vcpu->exit;
	struct vmcb *vmcb = svm->vmcb;

	if (DUNE_SHARES_CPU && kvm_is_here(this_cpu_ptr(&svm_cpu)) &&
	    !this_cpu_read(svm_cpu.taken))
		svm_take(vcpu, this_cpu_ptr(&svm_cpu));
	get_asid(vcpu);
	put_event(vcpu, &vmcb->control);
	if (vcpu->regs.rip != svm->last_rip)
		vmcb->control.int_state = 0;	/* no shadow of a skipped STI */
	vmcb->save.rip = vcpu->regs.rip;
	vmcb->save.rsp = vcpu->regs.rsp;
	vmcb->save.rax = vcpu->regs.rax;
	vmcb->save.rflags = vcpu->regs.rflags;
	vmcb->save.cr2 = vcpu->cr2;

	asm volatile("clgi" : : : "memory");
	dune_svm_enter(svm->vmcb_pa, &vcpu->regs, this_cpu_read(svm_cpu.host_pa));
	asm volatile("stgi" : : : "memory");

	svm->last_rip = vmcb->save.rip;
	vcpu->regs.rip = vmcb->save.rip;
	vcpu->regs.rsp = vmcb->save.rsp;
	vcpu->regs.rax = vmcb->save.rax;
	vcpu->regs.rflags = vmcb->save.rflags;
	vcpu->cr2 = vmcb->save.cr2;

	x->cpl = vmcb->save.cpl;
	if (likely(vmcb->control.exit_code == SVM_EXIT_VMMCALL)) {
		/* Nothing else matters then. */
		x->stat = DUNE_STAT_HYPERCALL;
		x->hw_reason = SVM_EXIT_VMMCALL;
		x->insn_len = 3;
		return;
	}
	keep_event(vcpu, &vmcb->control);
	decode_exit(vcpu, vmcb);
	if (x->stat == DUNE_STAT_EXCEPTION && x->vector == X86_TRAP_MC)
		asm volatile("int $18" : : : "memory");
}

static u64 svm_read_cr(struct dune_vcpu *vcpu, int cr)
{
	struct vmcb_save_area *s = &to_svm(vcpu)->vmcb->save;

	return cr == 0 ? s->cr0 : cr == 3 ? s->cr3 : s->cr4 & ~X86_CR4_MCE;
}

static void svm_write_cr(struct dune_vcpu *vcpu, int cr, u64 val)
{
	struct vmcb_save_area *s = &to_svm(vcpu)->vmcb->save;

	if (cr == 0)
		s->cr0 = val;
	else if (cr == 7)
		s->dr7 = val;
	else
		s->cr4 = val | X86_CR4_MCE;
}

/* Nested accesses are user accesses (APM 15.25.5), hence the user bit. */
static u64 svm_make_leaf(u64 pa, u32 access, int level, bool uc)
{
	u64 e = __sme_set(pa) | _PAGE_PRESENT | _PAGE_USER | NPT_ACCESSED | NPT_DIRTY;

	if (access & DUNE_ACCESS_WRITE)
		e |= _PAGE_RW;
	if (!(access & DUNE_ACCESS_EXEC))
		e |= _PAGE_NX;
	if (level > 1)
		e |= _PAGE_PSE;
	if (uc)
		e |= _PAGE_PCD | _PAGE_PWT;
	return e;
}

static u64 svm_make_table(u64 pa)
{
	return __sme_set(pa) | _PAGE_PRESENT | _PAGE_USER | _PAGE_RW | NPT_ACCESSED;
}

static u32 svm_leaf_access(u64 entry)
{
	if (!(entry & _PAGE_PRESENT))
		return 0;
	return DUNE_ACCESS_READ | (entry & _PAGE_RW ? DUNE_ACCESS_WRITE : 0) |
	       (entry & _PAGE_NX ? 0 : DUNE_ACCESS_EXEC);
}

struct dune_ops dune_svm_ops __ro_after_init = {
	.name		= "SVM",
	.vendor		= DUNE_VENDOR_SVM,
	.traps		= DUNE_TRAP_RDTSC | DUNE_TRAP_CPUID,
	.check		= svm_check,
	.setup		= svm_setup,
	.teardown	= svm_free_cpus,
	.cpu_on		= svm_cpu_on,
	.cpu_off	= svm_cpu_off,
	.vcpu_init	= svm_vcpu_init,
	.vcpu_free	= svm_vcpu_free,
	.set_state	= svm_set_state,
	.get_state	= svm_get_state,
	.enter		= svm_enter,
	.put		= DUNE_SHARES_CPU ? svm_put : NULL,
	.read_cr	= svm_read_cr,
	.write_cr	= svm_write_cr,
	.make_leaf	= svm_make_leaf,
	.make_table	= svm_make_table,
	.leaf_access	= svm_leaf_access,
	.leaf_bit	= _PAGE_PSE,
};
