/* SPDX-License-Identifier: MIT */
/*
 * The 32-bit entry of a bzImage whose kernel is not compressed: what is left
 * to do of the kernel's own arch/x86/boot/compressed.
 *
 * The boot loader enters in protected mode with flat segments, paging off,
 * ESI = boot_params, and in the header's code32_start the address of this code
 * (Documentation/arch/x86/boot.rst, "32-bit boot protocol").  In memory, as
 * offsets from where it put the kernel:
 *
 *	0		the kernel's segments, each at its place
 *	ENTRY		the kernel's startup_64
 *	IMAGE		this code; the kernel itself has only zeros from here on
 *	MEMORY		the end of the kernel's memory.  AREA bytes behind it are
 *			ours: the page tables, then the copy of this code that
 *			goes on when IMAGE is cleared
 *
 * harness/dunelab/images/bzimage.py defines these four.
 *
 * startup_64 wants to be in 64-bit mode on page tables that map memory to
 * itself, with RSI = boot_params and interrupts off.  It brings its own stack,
 * GDT, IDT and page tables, and is done with ours before it allocates memory.
 */

#define BP_CODE32_START	0x214

#define BOOT_CS		0x10
#define BOOT_DS		0x18

#define CR0_PG		0x80000000
#define CR4_PAE		0x20
#define MSR_EFER	0xc0000080
#define EFER_LME	0x100

#define PAGE		0x1000
#define LARGE_PAGE	0x200000
#define PTE_TABLE	0x3		/* present, writable */
#define PTE_LARGE	0x83		/* present, writable, 2 MB */

#define DIRECTORIES	4		/* of 1 GB each */
#define ROOTS		2		/* the PML4 and the only PDPT */
#define CODE		(ROOTS + DIRECTORIES) * PAGE

	.code32
	.globl	_start
_start:
	cli
	cld
	movl	BP_CODE32_START(%esi), %ebp
	leal	MEMORY - IMAGE(%ebp), %ebx	/* EBX: our area */
	movl	%esi, %edx

	movl	%ebp, %esi
	leal	CODE(%ebx), %edi
	movl	$(end - _start), %ecx
	rep movsb
	leal	CODE + moved - _start(%ebx), %eax
	jmp	*%eax

moved:
	movl	%edx, %esi
	/*
	 * What follows the image in the kernel's segments is zeros, and not all
	 * of it is .bss, which the kernel would clear itself.
	 */
	xorl	%eax, %eax
	movl	%ebp, %edi
	movl	$((MEMORY - IMAGE) / 4), %ecx
	rep stosl
	leal	CODE(%ebx), %ebp		/* EBP: this code, as before */

	/* EDI has come to our area: clear both roots, then fill them. */
	movl	$(ROOTS * PAGE / 4), %ecx
	rep stosl
	leal	PAGE + PTE_TABLE(%ebx), %eax
	movl	%eax, (%ebx)
	leal	ROOTS * PAGE + PTE_TABLE(%ebx), %eax
	leal	PAGE(%ebx), %edx
	movl	$DIRECTORIES, %ecx
1:	movl	%eax, (%edx)
	addl	$PAGE, %eax
	addl	$8, %edx
	decl	%ecx
	jnz	1b

	/* The directories: 4 GB, mapped to themselves. */
	movl	$PTE_LARGE, %eax
	movl	$(DIRECTORIES * PAGE / 8), %ecx
1:	movl	%eax, (%edi)
	movl	$0, 4(%edi)
	addl	$LARGE_PAGE, %eax
	addl	$8, %edi
	decl	%ecx
	jnz	1b

	leal	gdt - _start(%ebp), %eax
	movl	%eax, gdt_pointer + 2 - _start(%ebp)
	lgdt	gdt_pointer - _start(%ebp)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	%ebx, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0

	leal	long_mode - _start(%ebp), %eax
	movl	%eax, far_pointer - _start(%ebp)
	ljmp	*far_pointer - _start(%ebp)

	.code64
long_mode:
	/* The upper halves are undefined after a change of mode. */
	movl	%esi, %esi
	movl	%ebx, %ebx
	leaq	ENTRY - MEMORY(%rbx), %rax
	jmp	*%rax

	.balign	8
gdt:
	.quad	0
	.quad	0
	.quad	0x00af9a000000ffff	/* BOOT_CS: 64-bit code */
	.quad	0x00cf92000000ffff	/* BOOT_DS: flat data */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	0
far_pointer:
	.long	0
	.word	BOOT_CS

	.org	AREA - CODE		/* an error if this is behind us already */
end:
