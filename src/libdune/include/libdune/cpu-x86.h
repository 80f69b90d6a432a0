/* SPDX-License-Identifier: MIT */
/*
 * Names of exception vectors (SDM table 6-1, APM table 8-1), for
 * dune_register_intr_handler(), and model-specific registers.
 */
#ifndef LIBDUNE_CPU_X86_H
#define LIBDUNE_CPU_X86_H

#include "regs-x86.h"

#define T_DIVIDE	0	/* #DE */
#define T_DEBUG		1	/* #DB */
#define T_NMI		2	/* goes to the host, never to a handler */
#define T_BRKPT		3	/* #BP */
#define T_OFLOW		4	/* #OF */
#define T_BOUND		5	/* #BR */
#define T_ILLOP		6	/* #UD */
#define T_DEVICE	7	/* #NM */
#define T_DBLFLT	8	/* #DF: libdune's own, always fatal */
#define T_TSS		10	/* #TS */
#define T_SEGNP		11	/* #NP */
#define T_STACK		12	/* #SS */
#define T_GPFLT		13	/* #GP */
#define T_PGFLT		14	/* #PF */
#define T_FPERR		16	/* #MF */
#define T_ALIGN		17	/* #AC */
#define T_MCHK		18	/* goes to the host, never to a handler */
#define T_SIMDERR	19	/* #XM */

/* A vector that the CPU does not use; system calls do not come at it here. */
#define T_SYSCALL	48

typedef uint64_t u64;

/* The operand of LGDT, LIDT, SGDT and SIDT (SDM 3.5.1). */
struct tptr {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

/* A gate of the IDT in pieces, and its type byte (SDM 6.14.1, APM 4.8.4). */
#define IDT_ENTRIES		256
#define IDTD_P			(1 << 7)
#define IDTD_CPL3		(3 << 5)
#define IDTD_TRAP_GATE		0xf
#define IDTD_INTERRUPT_GATE	0xe

struct idtd {
	uint16_t low;
	uint16_t selector;
	uint8_t ist;
	uint8_t type;
	uint16_t middle;
	uint32_t high;
	uint32_t zero;
} __attribute__((packed)) __attribute__((aligned));

/* SDM volume 4, APM appendix A; others are in regs-x86.h. */
#define MSR_STAR		0xc0000081
#define MSR_LSTAR		0xc0000082	/* where SYSCALL goes */
#define MSR_CSTAR		0xc0000083
#define MSR_SFMASK		0xc0000084	/* the flags that it clears */
#define MSR_KERNEL_GS_BASE	0xc0000102

/**
 * native_read_msr, native_write_msr - read and write a model-specific register
 *
 * In Dune mode (ring 0).  docs/abi.md lists those that a vCPU has; any other raises
 * #GP.  Each thread has its own.
 */
static inline unsigned long long native_read_msr(unsigned int msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (unsigned long long)high << 32 | low;
}

/* In two halves; wrmsrl() takes one number. */
static inline void native_write_msr(unsigned int msr, unsigned int low, unsigned int high)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"(low), "d"(high) : "memory");
}

#define rdmsrl(msr, val)	((val) = native_read_msr(msr))
#define wrmsrl(msr, val)	native_write_msr((msr), (uint32_t)(uint64_t)(val), \
						 (uint32_t)((uint64_t)(val) >> 32))

#endif /* LIBDUNE_CPU_X86_H */
