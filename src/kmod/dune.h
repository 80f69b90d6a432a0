/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of dune.ko share.
 *
 *   main        device, its ioctls, module life
 *   cpu         turning VMX or SVM on and off on each CPU
 *   vm          one VM per mm, windows, MMU notifier
 *   mmu         second-stage tables and faults
 *   vcpu        the run loop and the exits
 *   emulate     what the guest gets back for CPUID, MSR, CR, DR
 *   calls       system calls that are made in place
 *   ksyms       the symbols that are exported to no module
 *   stats       the vCPUs in debugfs
 *   vmx, svm    the vendors: one struct dune_ops and an entry stub each
 *
 * Lock order, outermost first:
 *   vm->window_mutex > mmap_lock > vm->mmu_lock
 * cpu.c has its own mutex, taken before cpus_read_lock(), never under any of
 * these.  A vCPU needs no lock: only its owner comes near it.
 */
#ifndef _DUNE_H
#define _DUNE_H

#include <linux/bitops.h>
#include <linux/cpumask.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/static_call.h>
#include <linux/types.h>
#include <linux/xarray.h>
#include <asm/processor-flags.h>
#include <asm/ptrace.h>

#include "include/uapi/dune.h"
#include "regs.h"

#define DUNE_WINDOW_SHIFT	30
#define DUNE_WINDOW_SIZE	BIT_ULL(DUNE_WINDOW_SHIFT)
#define DUNE_HVA_LIMIT		((1ULL << 47) - 4096)	/* user half, 4-level */
#define DUNE_MAX_GPA_BITS	42		/* 4096 windows are enough */
#define DUNE_NO_TABLE		(~0UL)
#define DUNE_INSN_SKIP		0xff
#define DUNE_EVENT_EXCEPTION	3		/* SDM 24.8.3 and APM 15.20 agree */
/* Exceptions with an error code: #DF #TS #NP #SS #GP #PF #AC (SDM table 6-1, APM table 8-1) */
#define DUNE_WITH_ERROR		0x27d00U

static_assert(offsetof(struct dune_regs, rcx) == REGS_RCX);
static_assert(offsetof(struct dune_regs, rdi) == REGS_RDI);
static_assert(offsetof(struct dune_regs, r8) == 8 * 8);
static_assert(offsetof(struct dune_regs, r15) == 8 * 15);
static_assert(sizeof(struct dune_run) <= PAGE_SIZE);
static_assert(sizeof(struct dune_stats) <= PAGE_SIZE);

struct dune_vcpu;

#define VCPU_FLUSH_TLB		1	/* this vCPU's entries */
#define VCPU_FLUSH_L1D		2	/* others' data may be there: see vmx_exit.c */

/* Pages for second-stage tables, taken before mmu_lock. */
struct dune_mmu_cache {
	int nr;
	void *page[5];
};

/*
 * A VM: the second-stage view of one mm.  Found and counted by the MMU
 * notifier itself (mmu_notifier_get), so that there is one per mm.
 */
struct dune_vm {
	struct mmu_notifier mn;		/* mn.mm is the address space */

	/* The second-stage table.  Root: physical address of a zeroed page. */
	spinlock_t mmu_lock;
	u64 *root;
	int levels;			/* 4, or 5 on SVM under a 5-level host */
	/* mmu_lock: the table of 4 KiB entries used last, its 2 MiB or DUNE_NO_TABLE */
	u64 *recent;
	unsigned long recent_hva;	/* hva >> PMD_SHIFT */
	atomic_t inv_active;		/* invalidations under way; up under mmu_lock */
	unsigned long inv_start, inv_end;	/* mmu_lock: what they cover */
	wait_queue_head_t inv_wait;	/* faults that wait for one to end */
	atomic64_t tlb_gen;		/* bumped whenever entries were removed */
	cpumask_var_t running;		/* CPUs that are in guest mode for this VM */

	/* Windows: guest-physical GiB -> host-virtual GiB, and back. */
	struct mutex window_mutex;
	unsigned int nr_windows;	/* window_mutex; published after the entry */
	unsigned int max_windows;
	u64 *windows;			/* [max_windows] start of each, or DUNE_NO_WINDOW */
	struct xarray by_hva;		/* hva >> 30 -> index */

	struct work_struct free_work;
};

/* One exit, decoded by the vendor code into words common code understands. */
struct dune_exit {
	enum dune_stat stat;
	u32 hw_reason;
	u64 hw_info;
	u64 gpa, gva;		/* DUNE_STAT_FAULT */
	u32 access;		/* DUNE_STAT_FAULT: DUNE_ACCESS_* */
	bool gva_valid;
	/*
	 * DUNE_STAT_EXCEPTION: the vector.  DUNE_STAT_INSN: the exception to
	 * raise (6 #UD, 13 #GP), or DUNE_INSN_SKIP for a harmless no-op.
	 * DUNE_STAT_INTERRUPT: 0, or the host's vector that take_irq() is to have.
	 */
	u8 vector;
	u32 error_code;		/* DUNE_STAT_EXCEPTION, vector 17 */
	u64 dr6;		/* DUNE_STAT_EXCEPTION, vector 1: the bits to merge into DR6 */
	bool write;		/* DUNE_STAT_MSR, _CR, _DR: the guest writes */
	u8 cpl;			/* of the guest */
	bool entry_failed;	/* the CPU refused the state; stat is DUNE_STAT_OTHER */
	bool decoded;		/* DUNE_STAT_CR, _DR: the three below are valid */
	u8 cr;			/* control or debug register number */
	u8 gpr;			/* general register number, in the CPU's encoding */
	u8 insn_len;		/* bytes to skip for an emulated instruction, 0: unknown */
};

/*
 * An event to inject at the next entry: asked for by user space, by
 * emulation, or one whose delivery an exit cut short.
 */
struct dune_event {
	bool valid;
	u8 vector;
	u8 type;		/* DUNE_EVENT_EXCEPTION or, VMX, another of SDM 24.8.3 */
	bool has_error_code;
	u32 error_code;
	u8 insn_len;		/* software interrupts and exceptions, VMX only */
};

struct dune_vcpu {
	struct dune_vm *vm;
	struct file *vm_file;		/* keeps it */
	struct pid *owner;		/* the thread that may run it; NULL until the first use */
	struct list_head link;		/* all vCPUs, for debugfs */

	/*
	 * General registers in the CPU's own encoding order (rax rcx rdx rbx
	 * rsp rbp rsi rdi r8..r15), then rip and rflags.  The entry code
	 * loads and stores all but rsp, rip and rflags; the vendor's enter()
	 * moves those three to and from the VMCS or VMCB.
	 */
	struct dune_regs regs;
	u64 cr2;			/* loaded before entry, stored after exit */
	unsigned long db[4], dr6, dr7;	/* as the guest sees them */
	u64 cr8;
	struct dune_event event;
	struct dune_exit exit;
	unsigned int irq;		/* vector that waits, 0: none; any thread sets it */
	u16 traps;			/* DUNE_TRAP_* */

	int last_cpu;			/* CPU of the last entry, -1 never */
	s64 tlb_gen;			/* vm->tlb_gen at the last entry */
	u8 flush;			/* VCPU_FLUSH_*, before the next entry */
	bool has_state;			/* DUNE_SET_STATE was done */

	/* Calls that are made in place, if they come from the gate. */
	DECLARE_BITMAP(fast, DUNE_NR_FAST_CALLS);
	DECLARE_BITMAP(private, DUNE_NR_FAST_CALLS);	/* they touch what is the thread's own */
	u64 gate;			/* address of its hypercall */
	struct pt_regs args;		/* of such a call */

	struct dune_mmu_cache cache;
	struct preempt_notifier preempt;	/* while it is in DUNE_RUN */

	struct dune_run *run;		/* shared page, hostile */
	struct dune_stats *stats;	/* shared page, read-only for user space */

	void *arch;			/* struct vmx_vcpu or struct svm_vcpu */
};

/*
 * The vendor table.  Unless said otherwise calls come with preemption on and
 * may sleep; errors are negative errnos.
 */
struct dune_ops {
	const char *name;		/* "VT-x" or "SVM" */
	u32 vendor;			/* DUNE_VENDOR_* */
	int gpa_bits;			/* set by check() */
	int levels;			/* second-stage levels, set by check() */
	int max_map_level;		/* largest second-stage leaf: 1 4K, 2 2M, 3 1G */
	u16 traps;			/* DUNE_TRAP_* that can be set, set by check() */

	/* Is everything there?  Says with pr_err() what is missing. */
	int (*check)(void);
	/* Allocate and free what each CPU needs.  Once per module load. */
	int (*setup)(void);
	void (*teardown)(void);

	/*
	 * Turn the extension on and off on this CPU.  IRQs off.  -EBUSY if
	 * somebody else has it on, and it is not shared (DUNE_SHARES_CPU).
	 * cpu_off is called only after a successful cpu_on on this CPU, and
	 * must first make every vCPU's state leave this CPU (VMCLEAR).
	 */
	int (*cpu_on)(void);
	void (*cpu_off)(void);

	/*
	 * A vCPU's own structures; the VM's table exists already.  What a
	 * vcpu_init() that fails has made in part, vcpu_free() takes if
	 * vcpu->arch is set.
	 */
	int (*vcpu_init)(struct dune_vcpu *vcpu);
	void (*vcpu_free)(struct dune_vcpu *vcpu);

	/*
	 * System registers.  set_state gets values that vcpu.c has checked.
	 * Preemption on; the vendor code makes the state current itself.
	 */
	void (*set_state)(struct dune_vcpu *vcpu, const struct dune_state *st);
	void (*get_state)(struct dune_vcpu *vcpu, struct dune_state *st);

	/*
	 * Make this CPU the one that may hold the vCPU's state, when another
	 * one entered it last.  Preemption off, IRQs on; called right before
	 * IRQs go off for enter().  NULL where the state is plain memory.
	 */
	void (*load)(struct dune_vcpu *vcpu);

	/*
	 * One round in guest mode.  IRQs off on entry and on return, the
	 * vCPU's owner is current, the FPU holds its user registers.  Loads
	 * the state onto this CPU if it is not there, honours vcpu->flush
	 * and vcpu->event (both consumed) and delivers vcpu->irq as soon as the
	 * guest takes interrupts, restores every host register it
	 * touched but for those of put(), forwards an NMI or a machine check to the host, fills
	 * vcpu->exit, and turns a delivery that the exit cut short into
	 * vcpu->event or ->irq again.
	 */
	void (*enter)(struct dune_vcpu *vcpu);

	/*
	 * Give the host back what enter() left to the guest.  IRQs off; called
	 * before the thread leaves DUNE_RUN or the CPU.  NULL where enter()
	 * leaves nothing.
	 */
	void (*put)(struct dune_vcpu *vcpu);

	/*
	 * Interrupts without an exit; all three NULL where the CPU has none.  post()
	 * hands a vector over and says whether notify() has to follow; @cpu is where
	 * the owner is now.  Preemption off.  take_irq() calls the host's handler of an
	 * interrupt that the exit has acknowledged (vcpu->exit.vector).  IRQs off, and
	 * on after it.
	 */
	bool (*post)(struct dune_vcpu *vcpu, u8 vector);
	void (*notify)(struct dune_vcpu *vcpu, int cpu);
	void (*take_irq)(u8 vector);

	/* Control registers after an intercepted write, and DR7 as 7.  IRQs on. */
	u64 (*read_cr)(struct dune_vcpu *vcpu, int cr);
	void (*write_cr)(struct dune_vcpu *vcpu, int cr, u64 val);

	/*
	 * Second-stage entries.  Address bits are common to both; @access
	 * is DUNE_ACCESS_READ|WRITE|EXEC as allowed; @level 1, 2, 3; @uc:
	 * uncached (device memory).  make_table points to a lower table.
	 */
	u64 (*make_leaf)(u64 pa, u32 access, int level, bool uc);
	u64 (*make_table)(u64 pa);
	/* Which accesses an entry allows; 0 for an empty one. */
	u32 (*leaf_access)(u64 entry);
	u64 leaf_bit;			/* set in entries that are 2M or 1G leaves */
};

extern const struct dune_ops *dune_ops;	/* chosen at load, constant after */
extern struct dune_ops dune_vmx_ops, dune_svm_ops;
/* dune_ops->enter, without an indirect branch on the way of every exit */
DECLARE_STATIC_CALL(dune_enter, *((struct dune_ops *)NULL)->enter);

/* RFLAGS a guest may have: everything but VM, VIF, VIP and reserved bits. */
static inline u64 dune_rflags(u64 flags)
{
	return (flags & (X86_EFLAGS_CF | X86_EFLAGS_PF | X86_EFLAGS_AF | X86_EFLAGS_ZF |
			 X86_EFLAGS_SF | X86_EFLAGS_TF | X86_EFLAGS_IF | X86_EFLAGS_DF |
			 X86_EFLAGS_OF | X86_EFLAGS_IOPL | X86_EFLAGS_NT | X86_EFLAGS_RF |
			 X86_EFLAGS_AC | X86_EFLAGS_ID)) | X86_EFLAGS_FIXED;
}

static inline bool dune_is_canonical(u64 addr)
{
	return sign_extend64(addr, 47) == addr;
}

/* Control register bits that a guest always has, or may set. */
#define DUNE_CR0_FIXED	(X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_PG)
#define DUNE_CR0_FREE	(X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_WP | X86_CR0_AM)
#define DUNE_CR4_FIXED	(X86_CR4_PAE)
u64 dune_cpu_bits(u64 *features);
bool dune_cr0_valid(u64 val);
bool dune_cr4_valid(u64 val);
bool dune_state_valid(const struct dune_state *st);

/* svm_entry.S: @vmcb_pa and @host_pa are physical addresses of VMCBs */
void dune_svm_enter(u64 vmcb_pa, struct dune_regs *regs, u64 host_pa);

/* cpu.c */
int dune_cpu_get(void);			/* first user turns the extension on */
void dune_cpu_put(void);
DECLARE_PER_CPU(bool, dune_cpu_is_on);	/* IRQs off: may this CPU enter a guest? */
int dune_cpu_init(void);
void dune_cpu_exit(void);

/* vm.c */
struct dune_vm *dune_vm_get(struct mm_struct *mm);
int dune_vm_map_window(struct dune_vm *vm, u64 hva, struct dune_window *win);
int dune_vm_set_windows(struct dune_vm *vm, const u64 *hvas, unsigned int nr);
bool dune_gpa_to_hva(struct dune_vm *vm, u64 gpa, u64 *hva);
int dune_vm_init(void);
void dune_vm_exit(void);

/* mmu.c */
#define DUNE_MMU_RETRY		1
void dune_mmu_free(struct dune_vm *vm);
/*
 * Resolve a second-stage fault: 0 mapped, DUNE_MMU_RETRY enter again,
 * -EFAULT the mm refuses (fills *fault), -EINTR a signal, or no memory.
 */
int dune_mmu_fault(struct dune_vcpu *vcpu, struct dune_fault *fault);
/*
 * Drop what [start, end) maps, on every CPU, under mmu_lock.  Return: whether
 * there was anything.
 */
bool dune_mmu_invalidate(struct dune_vm *vm, unsigned long start, unsigned long end);
int dune_mmu_flush(struct dune_vm *vm);
void dune_mmu_cache_free(struct dune_mmu_cache *cache);

/* vcpu.c */
int dune_vcpu_create(struct file *file);
void dune_inject(struct dune_vcpu *vcpu, u8 vector, u32 error_code);

static inline void dune_skip_insn(struct dune_vcpu *vcpu)
{
	vcpu->regs.rip += vcpu->exit.insn_len;
}

/* DR7 (SDM 17.2.4): what turns a breakpoint on; what a guest may have, not GD or RTM. */
#define DUNE_DR7_ENABLE	0xff
#define DUNE_DR7	0xffff07ff
void dune_swap_breakpoints(struct dune_vcpu *vcpu);

/* emulate.c: the guest goes on afterwards */
void dune_emulate(struct dune_vcpu *vcpu);

/* What handling an exit leads to, but for 0, back to user space, and -errno. */
#define RUN_AGAIN		1

/* calls.c */
long dune_set_fast_calls(struct dune_vcpu *vcpu, const void __user *argp);

/* stats.c */
void dune_stats_init(void);
void dune_stats_exit(void);
void dune_stats_add(struct dune_vcpu *vcpu);
void dune_stats_del(struct dune_vcpu *vcpu);

#endif /* _DUNE_H */
