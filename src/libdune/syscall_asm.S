/* SPDX-License-Identifier: MIT */
/*
 * Where a SYSCALL in Dune mode lands (LSTAR).
 *
 * One hypercall: the module hands the registers to the host stub, which makes
 * the call and puts the result in rax.  rcx is the address of the next
 * instruction, as SYSCALL left it.  No stack is used, so the caller's red
 * zone is safe.  The flags are those that SYSCALL left in r11: SFMASK is 0,
 * and the host loop restores what an emulator changes nevertheless.
 *
 * VMCALL is #UD on AMD, VMMCALL on Intel: LSTAR names the one that works.
 */
#include "asm.h"

	.text

FUNC(__dune_syscall_vmx)
	vmcall
	jmp	*%rcx
END(__dune_syscall_vmx)

FUNC(__dune_syscall_svm)
	vmmcall
	jmp	*%rcx
END(__dune_syscall_svm)

	.section .note.GNU-stack, "", @progbits
