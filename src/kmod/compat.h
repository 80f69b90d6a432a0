/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernel versions, 5.10 to 7.3: the only file that asks
 * for a version.  Each entry says what changed and when.
 */
#ifndef _DUNE_COMPAT_H
#define _DUNE_COMPAT_H

#include <linux/version.h>

#ifdef __ASSEMBLY__

/*
 * 6.1 and before: one UNTRAIN_RET; 6.4 made a variant for VM exits.  Since 6.19 it
 * calls write_ibpb(), KVM's alone: the same with the barrier in place, and always
 * IBPB, which does all that SBPB does.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define DUNE_UNTRAIN_RET						\
	VALIDATE_UNRET_END;						\
	CALL_UNTRAIN_RET;						\
	ALTERNATIVE "jmp 1f", "", X86_FEATURE_IBPB_ON_VMEXIT;		\
	movl	$MSR_IA32_PRED_CMD, %ecx;				\
	movl	$PRED_CMD_IBPB, %eax;					\
	xorl	%edx, %edx;						\
	wrmsr;								\
	FILL_RETURN_BUFFER %rax, RSB_CLEAR_LOOPS, X86_BUG_IBPB_NO_RET;	\
1:	ALTERNATIVE "", __stringify(RESET_CALL_DEPTH), X86_FEATURE_CALL_DEPTH
#elif defined(UNTRAIN_RET_VM)
#define DUNE_UNTRAIN_RET	UNTRAIN_RET_VM
#else
#define DUNE_UNTRAIN_RET	UNTRAIN_RET
#endif

#else /* !__ASSEMBLY__ */

#include <linux/anon_inodes.h>
#include <linux/context_tracking.h>
#include <linux/cpu.h>
#include <linux/entry-common.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hardirq.h>
#include <linux/mm.h>
#include <linux/vtime.h>
#include <asm/debugreg.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/svm.h>
#include <asm/vmx.h>

#include "ksyms.h"

/*
 * load_gs_index() got a header of its own in 6.3, which all others include only in a
 * kernel for Xen's paravirtual guests.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
#include <asm/gsseg.h>
#endif

/* native_cpuid() left asm/processor.h in 7.3; its new home is there since 6.16. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 16, 0)
#include <asm/cpuid/api.h>
#endif

/* 6.18 renamed the header of xfer_to_guest_mode_work_pending(). */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 18, 0)
#include <linux/entry-virt.h>
#else
#include <linux/entry-kvm.h>
#endif

/* 6.16 renamed rdmsrl and friends and left no alias. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 16, 0)
#define rdmsrq		rdmsrl
#define wrmsrq		wrmsrl
#define rdmsrq_safe	rdmsrl_safe
#define wrmsrq_safe	wrmsrl_safe
#define native_rdmsrq	__rdmsr
#define native_wrmsrq	native_wrmsrl
#endif

/* 7.x renamed the VMCB field and bit that turn nested paging on. */
#ifdef SVM_MISC_ENABLE_NP
#define nested_ctl			misc_ctl
#define SVM_NESTED_CTL_NP_ENABLE	SVM_MISC_ENABLE_NP
#endif

/* The MMU notifier's ageing callbacks return bool since 7.1. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 1, 0)
#define DUNE_YOUNG	int
#else
#define DUNE_YOUNG	bool
#endif

/* 6.3 made vm_flags constant but for its setters. */
static inline void dune_vm_flags_mod(struct vm_area_struct *vma,
				     unsigned long set, unsigned long clear)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#else
	vm_flags_mod(vma, set, clear);
#endif
}

/* Until 6.0 an anonymous file could not be sought in, whatever its operations. */
static inline int dune_getfd(const char *name, const struct file_operations *fops, void *priv,
			     int flags)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 0, 0)
	int fd = get_unused_fd_flags(flags);
	struct file *file;

	if (fd < 0)
		return fd;
	file = anon_inode_getfile(name, fops, priv, flags);
	if (IS_ERR(file)) {
		put_unused_fd(fd);
		return PTR_ERR(file);
	}
	file->f_mode |= FMODE_LSEEK;
	fd_install(fd, file);
	return fd;
#else
	return anon_inode_getfd(name, fops, priv, flags);
#endif
}

/* 5.14 made a name of it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
static inline struct vm_area_struct *vma_lookup(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = find_vma(mm, addr);

	return vma && vma->vm_start <= addr ? vma : NULL;
}
#endif

/* Apart from RCU's and context tracking's part since 5.12; its counterpart always was. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 12, 0)
static __always_inline void vtime_account_guest_enter(void)
{
	if (vtime_accounting_enabled_this_cpu())
		vtime_guest_enter(current);
	else
		current->flags |= PF_VCPU;
}
#endif

/* Since 6.0 a fault may be done and mmap_lock gone. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 0, 0)
#define VM_FAULT_COMPLETED	0
#endif

/* The CPU's bit, CPUID(7).EBX[2], which 5.11 named. */
#ifndef X86_FEATURE_SGX
#define X86_FEATURE_SGX	(9 * 32 + 2)
#endif

/* SDM table 27-7; 5.10 has no name for it. */
#ifndef EPT_VIOLATION_GVA_IS_VALID
#define EPT_VIOLATION_GVA_IS_VALID	BIT(7)
#endif

/* APM 15.30.5: no scaling.  In 5.10 KVM has a name of its own for it. */
#ifndef SVM_TSC_RATIO_DEFAULT
#define SVM_TSC_RATIO_DEFAULT	0x0100000000ULL
#endif

/* Named since 6.16. */
#ifndef DR7_FIXED_1
#define DR7_FIXED_1	0x00000400
#endif

/* 6.19 exports to KVM alone what these are made of. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 19, 0)
#define dune_cr4_set(mask)	static_call(dune_cr4_update)(mask, 0)
#define dune_cr4_clear(mask)	static_call(dune_cr4_update)(0, mask)
#else
#define dune_cr4_set(mask)	cr4_set_bits(mask)
#define dune_cr4_clear(mask)	cr4_clear_bits(mask)
#endif

/*
 * Since 7.1 the kernel counts who uses VMX or SVM on each CPU, turns it on for the first
 * and off after the last: KVM may be another.  Before, whoever sets the enable bit has
 * the CPU to himself.
 */
#define DUNE_SHARES_CPU	(LINUX_VERSION_CODE >= KERNEL_VERSION(7, 1, 0))

/* 6.19 exports it to KVM alone; from 7.1 on the core calls it with VMXON. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#define dune_pt_handle_vmx(on)	intel_pt_handle_vmx(on)
#else
#define dune_pt_handle_vmx(on)	((void)(on))
#endif

/*
 * Does the kernel clear CPU buffers by VERW on its way to user space?  A
 * feature bit since 6.9 and the stable updates of 2024, one more for guests
 * since 6.16 and those of 2025.
 */
static inline bool dune_clears_cpu_buffers(void)
{
#ifdef X86_FEATURE_CLEAR_CPU_BUF_VM
	if (boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF_VM))
		return true;
#endif
#ifdef X86_FEATURE_CLEAR_CPU_BUF
	return boot_cpu_has(X86_FEATURE_CLEAR_CPU_BUF);
#else
	return boot_cpu_has_bug(X86_BUG_MDS) || boot_cpu_has_bug(X86_BUG_TAA);
#endif
}

/*
 * When the L1 data cache is to be flushed: as kvm_intel was told to, or as it
 * would choose (l1tf=, mitigations=).  From 6.19 on both variables are KVM's
 * alone, and of all that only mitigations=off is seen.
 */
static inline int dune_l1d_flush_mode(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
	if (l1tf_vmx_mitigation >= VMENTER_L1D_FLUSH_NEVER &&
	    l1tf_vmx_mitigation <= VMENTER_L1D_FLUSH_ALWAYS)
		return l1tf_vmx_mitigation;
	if (l1tf_mitigation >= L1TF_MITIGATION_FULL)
		return VMENTER_L1D_FLUSH_ALWAYS;
	if (l1tf_mitigation != L1TF_MITIGATION_OFF)
		return VMENTER_L1D_FLUSH_COND;
#else
	if (!cpu_mitigations_off())
		return VMENTER_L1D_FLUSH_COND;
#endif
	return VMENTER_L1D_FLUSH_NEVER;
}

/* Has an interrupt been here since the last time?  Interrupts tell KVM only if there is one. */
static inline bool dune_interrupted_l1d(void)
{
#if IS_ENABLED(CONFIG_KVM_INTEL)
	bool ret = kvm_get_cpu_l1tf_flush_l1d();

	if (ret)
		kvm_clear_cpu_l1tf_flush_l1d();
	return ret;
#else
	return true;
#endif
}

/* Does anybody watch this thread's system calls?  Thread flags until 5.11. */
static inline bool dune_syscall_work(void)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	return READ_ONCE(current_thread_info()->flags) & (SYSCALL_ENTER_WORK | SYSCALL_EXIT_WORK);
#else
	return READ_ONCE(current_thread_info()->syscall_work);
#endif
}

/* That of 5.10 takes no void pointer. */
#define dune_static_call_set(call, func)	\
	static_call_update(call, (typeof(&STATIC_CALL_TRAMP(call)))(func))

/* 5.10 has no x64_sys_call(): do_syscall_64() calls by the table itself. */
static inline long dune_call_by_table(const struct pt_regs *regs, unsigned int nr)
{
	return dune_call_table[nr](regs);
}

/* For kernels without IBT, which seals kallsyms_lookup_name(). */
static inline void *dune_table(unsigned long (*look_up)(const char *name))
{
	return look_up ? (void *)look_up("sys_call_table") : NULL;
}

#endif /* !__ASSEMBLY__ */
#endif /* _DUNE_COMPAT_H */
