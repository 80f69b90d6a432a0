/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the VT-x backend share. */
#ifndef _DUNE_VMX_H
#define _DUNE_VMX_H

/* Bits 0 and 1: the entry code shifts them into CF and ZF. */
#define VMX_ENTER_RESUME	1	/* VMRESUME, not VMLAUNCH */
#define VMX_ENTER_VERW		2	/* clear CPU buffers on the way */

#define VMX_FAILED		1	/* VMfailValid or VMfailInvalid, SDM 30.2 */
#define VMX_FAULTED		2

#define VMX_HOST_RSP		0x6c14	/* HOST_RSP, for assembly */

#ifndef __ASSEMBLY__

#include <linux/jump_label.h>
#include <linux/percpu.h>
#include <asm/desc_defs.h>
#include <asm/vmx.h>

#include "compat.h"
#include "dune.h"

#define NO_VMCS		(~0ULL)	/* no VMCS is current, SDM 24.1 */
#define EPT_LEAF_LARGE	BIT_ULL(7)
#define L1D_SIZE	(64 * 1024)	/* larger than any L1D that has L1TF */
#define NR_MSRS		4

struct vmx_vcpu {
	struct dune_vcpu *vcpu;
	void *vmcs;
	u16 vpid;
	u32 cpu_ctl;		/* CPU_BASED_*, but for the interrupt window */
	unsigned int enter_flags;	/* VMX_ENTER_* */
	struct vmx_apic *apic;	/* NULL: no posted interrupts */
	u32 *irq;		/* not 0: an interrupt waits for the next entry */
	int cpu;		/* that may cache the VMCS; -1: it is in memory */
	struct list_head link;	/* vmx_cpu.loaded of that CPU */
	u64 cr0, cr4;		/* as the guest sees them */
	u64 msr[NR_MSRS], kernel_gs_base;
	/* What the host had when this CPU was lent to the guest, see vmx_lend(). */
	bool lent;
	u16 host_ds, host_es, host_fs, host_gs, host_ldt;
	u64 host_kernel_gs_base, host_debugctl, host_spec_ctrl;
	/* What the VMCS has: a comparison costs less than a VMWRITE. */
	u64 rip, rsp, rflags;
	u64 host_rsp, host_cr3, host_cr4, host_fs_base, host_perf;
};

struct vmx_cpu {
	void *vmxon;			/* VMXON region */
	bool on;
	struct vmx_vcpu *active;	/* whose VMCS is current */
	u64 mine;			/* address of the last of ours that was */
	u64 theirs;			/* what KVM had current, while ours is; else NO_VMCS */
	struct list_head loaded;	/* whose VMCSs may be cached; IRQs off */
	u64 msr[NR_MSRS];		/* the host's */
	struct desc_ptr gdt;		/* the same */
};

/* The virtual-APIC page: the CPU uses its first KiB.  Behind that the descriptor. */
struct vmx_apic {
	u32 regs[512];		/* SDM 29.1.1 */
	u32 pir[256 / 32];	/* SDM table 29-1; aligned to 64 bytes */
	u32 on, rest[7];
};

/* Revision and controls, chosen once. */
struct vmx_ctl {
	u32 revision, pin, cpu, cpu2, exit, entry;
	u32 random;		/* of cpu2: RDRAND and RDSEED exit */
};

/* vmx.c: what check() and setup() found and made, the VMCSs on each CPU */
DECLARE_PER_CPU(struct vmx_cpu, vmx_cpu);
extern struct vmx_ctl vmx_ctl;
/* System-call MSRs: the guest has its own, the VMCS does not hold them. */
extern const u32 vmx_own_msrs[NR_MSRS];
extern void *vmx_msr_bitmap;		/* one policy for all */
extern void *vmx_l1d_pages;		/* what is read where L1D cannot be flushed */
extern bool vmx_clear_buffers;
DECLARE_STATIC_KEY_FALSE(vmx_has_debugctl);
extern int vmx_l1d_flush;		/* VMENTER_L1D_FLUSH_NEVER, _COND or _ALWAYS */
bool vmx_pick(u32 msr, u32 need, u32 want, u32 *bits);
void *vmx_alloc_vmcs(int node, gfp_t gfp);
bool vmx_activate(struct vmx_vcpu *v);
void vmx_give_back(struct vmx_cpu *c);
unsigned long vmx_get(struct dune_vcpu *vcpu);
void vmx_done(unsigned long flags);
void vmx_unload_elsewhere(struct vmx_vcpu *v, int here);

/* vmx_vmcs.c */
int vmx_vcpu_init(struct dune_vcpu *vcpu);
void vmx_vcpu_free(struct dune_vcpu *vcpu);
void vmx_set_state(struct dune_vcpu *vcpu, const struct dune_state *st);
void vmx_get_state(struct dune_vcpu *vcpu, struct dune_state *st);
u64 vmx_read_cr(struct dune_vcpu *vcpu, int cr);
void vmx_write_cr(struct dune_vcpu *vcpu, int cr, u64 val);
void vmx_set_cr0(struct vmx_vcpu *v, u64 val);
u64 vmx_eptp(struct dune_vm *vm);
u64 vmx_make_leaf(u64 pa, u32 access, int level, bool uc);
u64 vmx_make_table(u64 pa);
u32 vmx_leaf_access(u64 entry);

/* vmx_apic.c */
void vmx_apic_check(u32 t);
void vmx_apic_init(struct vmx_vcpu *v);
void vmx_apic_sync(struct vmx_apic *apic);
void vmx_apic_take_back(struct vmx_apic *apic, u8 vector);

/* vmx_exit.c, vmx_entry.S */
void vmx_enter(struct dune_vcpu *vcpu);
void vmx_put(struct dune_vcpu *vcpu);
int dune_vmx_enter(struct dune_regs *regs, u64 *host_rsp, unsigned int flags);
void dune_vmx_irq(unsigned long handler);
extern const char dune_vmx_exit[];	/* HOST_RIP */

/* IRQs off, before they go on again: the last that is done with a VMCS. */
static __always_inline void vmx_leave(void)
{
	if (DUNE_SHARES_CPU && unlikely(this_cpu_read(vmx_cpu.theirs) != NO_VMCS))
		vmx_give_back(this_cpu_ptr(&vmx_cpu));
}

static inline struct vmx_vcpu *to_vmx(struct dune_vcpu *vcpu)
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

static inline void vmcs_write(unsigned long field, u64 val)
{
	if (!VMX_INSN("vmwrite %[val], %[field]", [field] "r" (field), [val] "rm" (val)))
		pr_err_ratelimited("VMWRITE of field 0x%lx failed\n", field);
}

/* Write @field if it is not @val already. */
static inline bool vmcs_update(unsigned long field, u64 *cached, u64 val)
{
	if (*cached == val)
		return false;
	*cached = val;
	vmcs_write(field, val);
	return true;
}

/* After an exit VMX is on, and this VMCS current: nothing can fail. */
static __always_inline u64 vmcs_read_exit(unsigned long field)
{
	u64 val;

	asm volatile("vmread %[field], %[val]" : [val] "=r" (val) : [field] "r" (field) : "cc");
	return val;
}

/* 0 where it fails: the destination is not written then. */
static inline u64 vmcs_read(unsigned long field)
{
	u64 val;

	asm volatile("xor %k[val], %k[val]\n"
		     "1: vmread %[field], %[val]\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : [val] "=&r" (val) : [field] "r" (field) : "cc");
	return val;
}

#endif /* !__ASSEMBLY__ */

#endif /* _DUNE_VMX_H */
