// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a guest gets back for instructions that leave it: CPUID, RDMSR and
 * WRMSR, MOV to and from control and debug registers, port I/O.  The rule
 * is to deny; what is allowed is listed here.
 */
#include <linux/uaccess.h>
#include <asm/processor.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "dune.h"

#define GUEST_EFER	(EFER_LME | EFER_LMA | EFER_SCE | EFER_NX)

static u64 *gpr(struct dune_vcpu *vcpu, u8 nr)
{
	return (u64 *)&vcpu->regs + (nr & 15);
}

/**
 * dune_cpu_bits - what of this CPU a process can use in ring 0
 * @features: DUNE_FEAT_* are set here
 *
 * Whatever user space sees as enabled by the host.  Return: the CR4 bits a guest may
 * set, without DUNE_CR4_FIXED.  Not UMIP, VMXE, SMXE, CET, LA57, PCE, MCE.
 */
u64 dune_cpu_bits(u64 *features)
{
	static const struct {
		u16 cpu;
		u32 cr4;
		u64 feature;
	} map[] = {
		{ X86_FEATURE_PCID, X86_CR4_PCIDE, DUNE_FEAT_PCID },
		{ X86_FEATURE_SMEP, X86_CR4_SMEP, DUNE_FEAT_SMEP },
		{ X86_FEATURE_SMAP, X86_CR4_SMAP, DUNE_FEAT_SMAP },
		{ X86_FEATURE_FSGSBASE, X86_CR4_FSGSBASE, DUNE_FEAT_FSGSBASE },
		{ X86_FEATURE_OSXSAVE, X86_CR4_OSXSAVE }, { X86_FEATURE_OSPKE, X86_CR4_PKE },
		{ X86_FEATURE_XSAVE, 0, DUNE_FEAT_XSAVE }, { X86_FEATURE_PKU, 0, DUNE_FEAT_PKU },
		{ X86_FEATURE_INVPCID, 0, DUNE_FEAT_INVPCID },
		{ X86_FEATURE_GBPAGES, 0, DUNE_FEAT_1GB_PAGES },
	};
	u64 cr4 = X86_CR4_TSD | X86_CR4_DE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	int i;

	for (i = 0; i < ARRAY_SIZE(map); i++)
		if (boot_cpu_has(map[i].cpu)) {
			cr4 |= map[i].cr4;
			*features |= map[i].feature;
		}
	return cr4;
}

bool dune_cr0_valid(u64 val)
{
	return (val & DUNE_CR0_FIXED) == DUNE_CR0_FIXED &&
	       !(val & ~(u64)(DUNE_CR0_FIXED | DUNE_CR0_FREE));
}

bool dune_cr4_valid(u64 val)
{
	u64 features = 0;

	return (val & DUNE_CR4_FIXED) == DUNE_CR4_FIXED &&
	       !(val & ~(dune_cpu_bits(&features) | DUNE_CR4_FIXED));
}

/* Does @st describe a vCPU that the CPU can enter and the host can bear? */
bool dune_state_valid(const struct dune_state *st)
{
	int cpl = st->cs & 3;

	return dune_cr0_valid(st->cr0) && dune_cr4_valid(st->cr4) && !(st->sfmask >> 32) &&
	       !(st->cr3 >> dune_ops->gpa_bits) &&
	       (st->cr4 & X86_CR4_PCIDE || !(st->cr3 & 0xfe7)) &&
	       dune_is_canonical(st->fs_base) && dune_is_canonical(st->gs_base) &&
	       dune_is_canonical(st->kernel_gs_base) && dune_is_canonical(st->gdt_base) &&
	       dune_is_canonical(st->idt_base) && dune_is_canonical(st->tr_base) &&
	       dune_is_canonical(st->lstar) && dune_is_canonical(st->cstar) &&
	       st->gdt_limit <= 0xffff && st->idt_limit <= 0xffff &&
	       st->tr_limit <= 0xfffff && st->tr_limit >= 0x67 &&
	       /* Selectors: rings 0 and 3, cs and ss agree, none in the LDT. */
	       (cpl == 0 || cpl == 3) && (st->ss & 3) == cpl && !((st->cs | st->ss | st->tr) & 4) &&
	       st->cs & ~7 && st->tr & ~7 && !(st->tr & 3) && !(st->traps & ~dune_ops->traps);
}

/* What the CPU says, less what a Dune process cannot have. */
static void emulate_cpuid(struct dune_vcpu *vcpu)
{
	u32 leaf = vcpu->regs.rax, a = leaf, b, c = vcpu->regs.rcx, d;
	u64 cr4 = dune_ops->read_cr(vcpu, 4);

	native_cpuid(&a, &b, &c, &d);
	if (leaf == 1) {			/* MONITOR VMX SMX OSXSAVE */
		c &= ~(BIT(3) | BIT(5) | BIT(6) | BIT(27));
		c |= cr4 & X86_CR4_OSXSAVE ? BIT(27) : 0;
	} else if (leaf == 7 && !(u32)vcpu->regs.rcx) {	/* UMIP OSPKE SHSTK LA57, IBT */
		c &= ~(BIT(2) | BIT(4) | BIT(7) | BIT(16));
		c |= cr4 & X86_CR4_PKE ? BIT(4) : 0;
		d &= ~BIT(20);
	} else if (leaf == 0x80000001) {	/* SVM */
		c &= ~BIT(2);
	}
	leaf = leaf == 0x8000000a ? 0 : ~0;	/* SVM's details */
	vcpu->regs.rax = a & leaf;
	vcpu->regs.rbx = b & leaf;
	vcpu->regs.rcx = c & leaf;
	vcpu->regs.rdx = d & leaf;
	dune_skip_insn(vcpu);
}

/* MSRs beside those that the permission bitmaps let through. */
static void emulate_msr(struct dune_vcpu *vcpu)
{
	u32 msr = vcpu->regs.rcx;
	u64 val = (u32)vcpu->regs.rax | vcpu->regs.rdx << 32;

	if (msr != MSR_EFER || (vcpu->exit.write && val != GUEST_EFER)) {
		dune_inject(vcpu, X86_TRAP_GP, 0);
		return;
	}
	if (!vcpu->exit.write) {
		vcpu->regs.rax = GUEST_EFER;
		vcpu->regs.rdx = 0;
	}
	dune_skip_insn(vcpu);
}

/* MCE is the host's: it reads as it may on each vendor, and writes to it do nothing. */
static bool cr4_valid(struct dune_vcpu *vcpu, u64 val)
{
	val &= ~(u64)X86_CR4_MCE;
	/* PCIDE may go on only while CR3[11:0] is 0 (SDM 4.10.1). */
	return dune_cr4_valid(val) && !(val & ~dune_ops->read_cr(vcpu, 4) & X86_CR4_PCIDE &&
					dune_ops->read_cr(vcpu, 3) & 0xfff);
}

static void emulate_cr(struct dune_vcpu *vcpu)
{
	struct dune_exit *x = &vcpu->exit;
	u64 *reg = gpr(vcpu, x->gpr);

	if (!x->write) {
		*reg = x->cr == 8 ? vcpu->cr8 : dune_ops->read_cr(vcpu, x->cr);
	} else if (x->cr == 8 && !(*reg & ~0xfULL)) {
		vcpu->cr8 = *reg;	/* TPR: there is no interrupt controller behind it */
	} else if ((x->cr == 0 && dune_cr0_valid(*reg)) || (x->cr == 4 && cr4_valid(vcpu, *reg))) {
		dune_ops->write_cr(vcpu, x->cr, x->cr == 4 ? *reg & ~(u64)X86_CR4_MCE : *reg);
		/* The instruction would have dropped what is cached (SDM 4.10.4.1, APM 5.5.1). */
		vcpu->flush |= VCPU_FLUSH_TLB;
	} else {
		dune_inject(vcpu, X86_TRAP_GP, 0);
		return;
	}
	dune_skip_insn(vcpu);
}

/*
 * DR0 to DR3 are not the CPU's to switch.  Before an entry and after the exit, IRQs
 * off, if the guest has breakpoints.  No breakpoint is on until the vendor's entry
 * loads the guest's DR7, or the caller the host's.
 */
void dune_swap_breakpoints(struct dune_vcpu *vcpu)
{
	unsigned long db;
	int i;

	set_debugreg(0UL, 7);
	for (i = 0; i < ARRAY_SIZE(vcpu->db); i++) {
		get_debugreg(db, i);
		set_debugreg(vcpu->db[i], i);
		vcpu->db[i] = db;
	}
}

/*
 * The guest's own: the host's ptrace and perf have theirs.  GD would catch what exits
 * already.
 */
static void emulate_dr(struct dune_vcpu *vcpu)
{
	struct dune_exit *x = &vcpu->exit;
	u64 *reg = gpr(vcpu, x->gpr);
	u8 dr = x->cr & 4 ? x->cr | 2 : x->cr;	/* 4 and 5 are 6 and 7, SDM 17.2.2 */

	if (!x->write) {
		*reg = dr == 6 ? vcpu->dr6 : dr == 7 ? vcpu->dr7 : vcpu->db[dr];
	} else if (dr < 4) {
		vcpu->db[dr] = *reg;
	} else if (dr == 6 && !(*reg >> 32)) {
		vcpu->dr6 = *reg | DR6_RESERVED;
	} else if (dr == 7 && !(*reg & ~(u64)DUNE_DR7)) {
		vcpu->dr7 = *reg | DR7_FIXED_1;
		dune_ops->write_cr(vcpu, 7, vcpu->dr7);
	} else {
		dune_inject(vcpu, X86_TRAP_GP, 0);
		return;
	}
	dune_skip_insn(vcpu);
}

/*
 * Guest-virtual to host-virtual by the guest's own tables, for the few
 * instructions that a CPU without decode assists leaves undecoded.
 */
static bool gva_to_hva(struct dune_vcpu *vcpu, u64 gva, u64 *hva)
{
	u64 table = dune_ops->read_cr(vcpu, 3) & 0x000ffffffffff000ULL, entry;
	int shift;

	for (shift = 39; ; shift -= 9) {
		u64 at, size = 1ULL << shift;

		if (!dune_gpa_to_hva(vcpu->vm, table + ((gva >> shift) & 511) * 8, &at) ||
		    get_user(entry, (u64 __user *)at) || !(entry & _PAGE_PRESENT))
			return false;
		table = entry & 0x000ffffffffff000ULL;
		if (shift == 12 || (shift < 39 && entry & _PAGE_PSE))
			return dune_gpa_to_hva(vcpu->vm, (table & ~(size - 1)) |
					       (gva & (size - 1)), hva);
	}
}

/*
 * What the CPU did not decode: [REX] 0F 20..23 modrm, MOV to and from CR and
 * DR, and 0F 06, CLTS (SDM vol. 2).  False: neither, or not readable.
 */
static bool decode_insn(struct dune_vcpu *vcpu, bool *clts)
{
	struct dune_exit *x = &vcpu->exit;
	u8 b[4], rex, n;
	u64 hva;
	int i;

	for (i = 0; i < 4; i++)
		if (!gva_to_hva(vcpu, vcpu->regs.rip + i, &hva) || get_user(b[i], (u8 __user *)hva))
			return false;
	*clts = b[0] == 0x0f && b[1] == 0x06;
	n = (b[0] & 0xf0) == 0x40;
	rex = n ? b[0] : 0;
	if (*clts) {
		x->insn_len = 2;
		return true;
	}
	if (b[n] != 0x0f || b[n + 1] < 0x20 || b[n + 1] > 0x23)
		return false;
	x->write = b[n + 1] & 2;
	x->cr = ((b[n + 2] >> 3) & 7) | (rex & 4 ? 8 : 0);
	x->gpr = (b[n + 2] & 7) | (rex & 1 ? 8 : 0);
	x->insn_len = n + 3;
	return true;
}

/* DUNE_STAT_CR and _DR */
static void emulate_mov(struct dune_vcpu *vcpu)
{
	struct dune_exit *x = &vcpu->exit;
	bool clts = false;

	/*
	 * Ring 3 gets its #GP before an exit (SDM 25.1.1, APM 15.9), but not on Bochs, which
	 * exits first for MOV DR.  LMSW and prefixes that nobody needs: refused.
	 */
	if (x->cpl || (!x->decoded && !decode_insn(vcpu, &clts))) {
		dune_inject(vcpu, X86_TRAP_GP, 0);
	} else if (clts) {
		dune_ops->write_cr(vcpu, 0, dune_ops->read_cr(vcpu, 0) & ~(u64)X86_CR0_TS);
		dune_skip_insn(vcpu);
	} else if (x->stat == DUNE_STAT_CR) {
		emulate_cr(vcpu);
	} else {
		emulate_dr(vcpu);
	}
}

void dune_emulate(struct dune_vcpu *vcpu)
{
	struct dune_exit *x = &vcpu->exit;

	if (x->stat == DUNE_STAT_IO ||
	    (x->stat == DUNE_STAT_CPUID && vcpu->traps & DUNE_TRAP_CPUID))
		dune_inject(vcpu, X86_TRAP_GP, 0);
	else if (x->stat == DUNE_STAT_CPUID)
		emulate_cpuid(vcpu);
	else if (x->stat == DUNE_STAT_MSR)
		emulate_msr(vcpu);
	else if (x->stat != DUNE_STAT_INSN)
		emulate_mov(vcpu);
	else if (x->vector == DUNE_INSN_SKIP)
		dune_skip_insn(vcpu);
	else
		dune_inject(vcpu, x->vector, 0);
}
