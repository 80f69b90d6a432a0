/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The switch into a VT-x guest and back.  A VM exit loads RSP and RIP from
 * the VMCS and leaves the general registers as the guest had them
 * (SDM 27.5.3), so the way back is found on the stack.
 */
#include <linux/linkage.h>
#include <linux/objtool.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>
#include <asm/processor-flags.h>
#include <asm/segment.h>
#include <asm/unwind_hints.h>

#include "gprs.S"
#include "vmx.h"

/* 6.17 renamed it; kernels before the BHI mitigations have none. */
#if defined(X86_FEATURE_CLEAR_BHB_VMEXIT)
#define CLEAR_BHB_FEATURE	X86_FEATURE_CLEAR_BHB_VMEXIT
#elif defined(X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT)
#define CLEAR_BHB_FEATURE	X86_FEATURE_CLEAR_BHB_LOOP_ON_VMEXIT
#endif

/* More taken branches than any branch history buffer holds (194). */
#define BHB_BRANCHES		200

	.section .rodata, "a"
	.balign 2
/* VERW clears CPU buffers only with a memory operand (MDS guidance). */
.Lverw_selector:
	.word	__KERNEL_DS

	.text

/*
 * int dune_vmx_enter(struct dune_regs *regs, u64 *host_rsp, unsigned int flags)
 *
 * @host_rsp remembers what HOST_RSP of the current VMCS is; flags: VMX_ENTER_*.
 * Return: 0 after a VM exit, VMX_FAILED if the instruction failed (the error
 * is in the VMCS), VMX_FAULTED if it faulted (VMX is off).
 */
SYM_FUNC_START(dune_vmx_enter)
	.irp	reg, rbp, rbx, r12, r13, r14, r15, rdi
	push	%\reg
	.endr

	cmp	%rsp, (%rsi)
	je	1f
	mov	$VMX_HOST_RSP, %eax
.Lvmwrite:
	vmwrite	%rsp, %rax
	jbe	.Lfailed
	mov	%rsp, (%rsi)
1:
	/* CF: resume; ZF: no VERW.  MOV keeps both. */
	shr	$1, %edx

	LOAD_GPRS %rdi
	mov	REGS_RAX(%rdi), %rax
	mov	REGS_RSI(%rdi), %rsi
	mov	REGS_RDI(%rdi), %rdi

	/* After the last load of host memory: nothing stays in the buffers. */
	jz	2f
	verw	.Lverw_selector(%rip)		/* changes ZF alone */
2:
	UNWIND_HINT_SAVE
	jc	.Lvmresume
.Lvmlaunch:
	vmlaunch
	jmp	.Lfailed
.Lvmresume:
	vmresume
	jmp	.Lfailed

SYM_INNER_LABEL(dune_vmx_exit, SYM_L_GLOBAL)
	UNWIND_HINT_RESTORE
	ANNOTATE_NOENDBR
	push	%rdi
	mov	8(%rsp), %rdi
	mov	%rax, REGS_RAX(%rdi)
	mov	%rsi, REGS_RSI(%rdi)
	SAVE_GPRS %rdi
	pop	REGS_RDI(%rdi)
	xor	%eax, %eax
.Lout:
	CLEAR_GPRS

	/* Nor a return address that the guest left: before the first RET. */
	ALTERNATIVE_2 "jmp .Lrsb_done", "", X86_FEATURE_RSB_VMEXIT, \
		      "jmp .Lrsb_one", X86_FEATURE_RSB_VMEXIT_LITE
	FILL_RSB

#ifdef CLEAR_BHB_FEATURE
	/*
	 * Nor the branch history, which selects targets of indirect branches
	 * (BHI): shift it out with branches that are always the same.  The
	 * kernel's own loop does this too but is not exported from 6.19 on.
	 */
	ALTERNATIVE "jmp .Lbhb_done", "", CLEAR_BHB_FEATURE
	.rept	BHB_BRANCHES
	jmp	1f
1:
	.endr
	lfence
.Lbhb_done:
#endif

	.irp	reg, rdi, r15, r14, r13, r12, rbx, rbp
	pop	%\reg
	.endr
	RET

.Lfailed:
	mov	$VMX_FAILED, %eax
	jmp	.Lout
.Lfaulted:
	mov	$VMX_FAULTED, %eax
	jmp	.Lout

	_ASM_EXTABLE(.Lvmwrite, .Lfaulted)
	_ASM_EXTABLE(.Lvmlaunch, .Lfaulted)
	_ASM_EXTABLE(.Lvmresume, .Lfaulted)
SYM_FUNC_END(dune_vmx_enter)

/*
 * void dune_vmx_irq(unsigned long handler)
 *
 * Call the handler of an interrupt gate on the frame that the CPU would have pushed,
 * had the interrupt come here with IRQs on: they are on when it is done.
 */
SYM_FUNC_START(dune_vmx_irq)
	push	%rbp
	mov	%rsp, %rbp
	and	$-16, %rsp
	push	$__KERNEL_DS
	push	%rbp
	pushf
	orl	$X86_EFLAGS_IF, (%rsp)
	push	$__KERNEL_CS
	CALL_NOSPEC rdi
	/* IRETQ has popped it all; objtool wants to see it. */
	mov	%rbp, %rsp
	pop	%rbp
	RET
SYM_FUNC_END(dune_vmx_irq)
