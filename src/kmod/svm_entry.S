/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The switch into an SVM guest and back.  Interrupts are held off by GIF
 * (the caller did CLGI), not by IF: with virtual interrupt masking the
 * host's IF decides whether a physical interrupt ends guest mode
 * (APM 15.21.1), so it must be set across VMRUN.
 */
#include <linux/linkage.h>
#include <asm/asm.h>
#include <asm/cpufeatures.h>
#include <asm/nospec-branch.h>

#include "compat.h"
#include "gprs.S"

	.text

/*
 * void dune_svm_enter(u64 vmcb_pa, struct dune_regs *regs, u64 host_pa)
 *
 * VMSAVE and VMLOAD move what VMRUN does not: FS, GS, TR, LDTR and the
 * syscall MSRs (APM 15.5.2).  No per-CPU access in between: GS is the
 * guest's.
 */
SYM_FUNC_START(dune_svm_enter)
	.irp	reg, rbp, rbx, r12, r13, r14, r15, rsi, rdx
	push	%\reg
	.endr

	mov	%rdx, %rax
	vmsave	%rax
	mov	%rdi, %rax
	vmload	%rax

	LOAD_GPRS %rsi
	mov	REGS_RDI(%rsi), %rdi
	mov	REGS_RSI(%rsi), %rsi

	sti
	vmrun	%rax
	cli
	vmsave	%rax

	/* VMRUN restored RAX, RSP and RIP; all else is the guest's. */
	mov	8(%rsp), %rax
	mov	%rsi, REGS_RSI(%rax)
	mov	%rdi, REGS_RDI(%rax)
	SAVE_GPRS %rax
	CLEAR_GPRS

	pop	%rax
	vmload	%rax

	/*
	 * The guest chose the return stack buffer, and on Zen 1 and 2 the
	 * branch predictions that returns use (Retbleed): drop both before
	 * the first RET.
	 */
	ALTERNATIVE "jmp .Lrsb_done", "", X86_FEATURE_RSB_VMEXIT
	FILL_RSB
	DUNE_UNTRAIN_RET

	.irp	reg, rsi, r15, r14, r13, r12, rbx, rbp
	pop	%\reg
	.endr
	RET
SYM_FUNC_END(dune_svm_enter)
