/* SPDX-License-Identifier: MIT */
/*
 * Bits of x86's control, flag and debug registers, of descriptors, and of some MSRs,
 * under the names that programs written for Dune use.  mmu-x86.h includes it.
 *
 * A bit that is named here need not be one that a vCPU has: docs/abi.md tells which of
 * CR0, CR4, EFER and the MSRs ring 0 may read and write in Dune mode.
 */
#ifndef LIBDUNE_REGS_X86_H
#define LIBDUNE_REGS_X86_H

#ifndef __ASSEMBLER__
#include "types.h"
#endif

/* A number, an expression and 1, 64 bits wide. */
#define UINT64(x)	((uint64_t)x)
#define CAST64(x)	((uint64_t)(x))
#define ONE		UINT64(1)

/* CR0 (SDM 2.5, APM 3.1.1). */
#define CR0_PE		0x00000001	/* protected mode */
#define CR0_MP		0x00000002	/* WAIT heeds TS */
#define CR0_EM		0x00000004	/* no x87 */
#define CR0_TS		0x00000008	/* #NM at the next x87 or SSE instruction */
#define CR0_ET		0x00000010
#define CR0_NE		0x00000020	/* x87 errors are #MF */
#define CR0_WP		0x00010000	/* ring 0 heeds PTE_W, too */
#define CR0_AM		0x00040000	/* ring 3 may have alignment checks */
#define CR0_NW		0x20000000
#define CR0_CD		0x40000000	/* caches off */
#define CR0_PG		0x80000000	/* paging */

/* CR3 without PCIDs: how the CPU reads the root. */
#define CR3_PWT		0x08
#define CR3_PCD		0x10

/* CR4 (SDM 2.5, APM 3.1.3). */
#define CR4_VME		0x00000001
#define CR4_PVI		0x00000002
#define CR4_TSD		0x00000004	/* RDTSC is #GP in ring 3 */
#define CR4_DE		0x00000008
#define CR4_PSE		0x00000010
#define CR4_PAE		0x00000020
#define CR4_MCE		0x00000040
#define CR4_PGE		0x00000080	/* PTE_G counts */
#define CR4_PCE		0x00000100	/* RDPMC in ring 3 */
#define CR4_OSFXSR	0x00000200	/* SSE */
#define CR4_OSX		0x00000400	/* SSE errors are #XM */
#define CR4_UMIP	0x00000800
#define CR4_FSGSBASE	0x00010000	/* RDFSBASE and the like, in ring 3 too */
#define CR4_PCIDE	0x00020000	/* CR3 holds a PCID */
#define CR4_OSXSAVE	0x00040000
#define CR4_SMEP	0x00100000	/* ring 0 does not execute pages with PTE_U */
#define CR4_SMAP	0x00200000	/* nor touch them, without FL_AC */
#define CR4_PKE		0x00400000

/* RFLAGS (SDM 2.3, APM 3.1.6). */
#define FL_CF		0x00000001
#define FL_PF		0x00000004
#define FL_AF		0x00000010
#define FL_ZF		0x00000040
#define FL_SF		0x00000080
#define FL_TF		0x00000100	/* #DB after each instruction */
#define FL_IF		0x00000200	/* interrupts are taken */
#define FL_DF		0x00000400
#define FL_OF		0x00000800
#define FL_IOPL_MASK	0x00003000	/* libdune's: see dune_jump_to_user() */
#define FL_IOPL_0	0x00000000
#define FL_IOPL_1	0x00001000
#define FL_IOPL_2	0x00002000
#define FL_IOPL_3	0x00003000
#define FL_NT		0x00004000
#define FL_RF		0x00010000	/* no breakpoint at the next instruction */
#define FL_VM		0x00020000
#define FL_AC		0x00040000
#define FL_VIF		0x00080000
#define FL_VIP		0x00100000
#define FL_ID		0x00200000

/* The error code of a page fault (SDM 4.7, APM 8.4.2). */
#define FEC_P		0x01	/* the page is present, the access is not allowed */
#define FEC_W		0x02	/* a write */
#define FEC_U		0x04	/* from ring 3 */
#define FEC_RSV		0x08	/* a reserved bit is set in a page-table entry */
#define FEC_I		0x10	/* an instruction fetch */

/* EFER, the number of the MSR and its bits (SDM 2.2.1, APM 3.1.7). */
#define EFER		0xc0000080
#define EFER_SCE	0x0001
#define EFER_LME	0x0100
#define EFER_LMA	0x0400
#define EFER_NXE	0x0800
#define EFER_FFXSR	0x4000

/* Other MSRs (SDM volume 4, APM appendix A). */
#define MSR_FS_BASE		0xc0000100
#define MSR_GS_BASE		0xc0000101
#define MSR_DEBUG_CTL		0x1d9
#define DEBUG_CTL_LBR		(1 << 0)
#define MSR_LBR_FROM_IP		0x1db
#define MSR_LBR_TO_IP		0x1dc
#define MSR_LEX_FROM_IP		0x1dd
#define MSR_LEX_TO_IP		0x1de

/* Memory-type range registers, which no vCPU has (SDM 11.11, APM 7.7). */
#define MTRR_CAP		0xfe
#define MTRR_CAP_VCNT_MASK	0xff
#define MTRR_CAP_FIX		0x100
#define MTRR_CAP_WC		0x400
#define MTRR_BASE(i)		(0x200 + 2 * (i))
#define MTRR_BASE_UC		0x00
#define MTRR_BASE_WC		0x01
#define MTRR_BASE_WT		0x04
#define MTRR_BASE_WP		0x05
#define MTRR_BASE_WB		0x06
#define MTRR_MASK(i)		(0x201 + 2 * (i))
#define MTRR_MASK_FULL		PGADDR((ONE << 36) - 1)
#define MTRR_MASK_VALID		0x800

/* DR7: breakpoint @n, 0 .. 3 (SDM 17.2.4, APM 13.1.1.4). */
#define DR7_L(n)		(ONE << ((n) * 2))	/* on */
#define DR7_G(n)		(ONE << ((n) * 2 + 1))	/* the same here */
#define DR7_LE			(ONE << 8)
#define DR7_GE			(ONE << 9)
#define DR7_GD			(ONE << 13)
#define DR7_RW_SHIFT(n)		((n) * 4 + 16)		/* of one of those below */
#define DR7_LEN_SHIFT(n)	((n) * 4 + 18)
#define DR7_RW_EXEC		0x0
#define DR7_RW_WRITE		0x1
#define DR7_RW_IO		0x2
#define DR7_RW_RW		0x3
#define DR7_LEN_1		0x0
#define DR7_LEN_2		0x1
#define DR7_LEN_8		0x2
#define DR7_LEN_4		0x3

/* Types of code and data segments (SDM 3.4.5.1), as numbers and in their place. */
#define STA_A		(ONE << 0)	/* accessed */
#define STA_W		(ONE << 1)	/* data: writable */
#define STA_E		(ONE << 2)	/* data: expands down */
#define STA_X		(ONE << 3)	/* code */
#define STA_R		(ONE << 1)	/* code: readable */
#define STA_C		(ONE << 2)	/* code: conforming */
#define SEG_A		(STA_A << 40)
#define SEG_W		(STA_W << 40)
#define SEG_E		(STA_E << 40)
#define SEG_X		(STA_X << 40)
#define SEG_R		(STA_R << 40)
#define SEG_C		(STA_C << 40)
#define SEG_S		(ONE << 44)	/* code or data, not a system segment */

/* System descriptors.  A busy 64-bit TSS is 0xb to the CPU, and SEG_TSSB 0xa as ever. */
#define SEG_LDT		(UINT64(0x2) << 40)
#define SEG_TSSA	(UINT64(0x9) << 40)
#define SEG_TSSB	(UINT64(0xa) << 40)
#define SEG_CG		(UINT64(0xc) << 40)
#define SEG_IG		(UINT64(0xe) << 40)
#define SEG_TG		(UINT64(0xf) << 40)

#define SEG_DPL(x)	(((x) & UINT64(3)) << 45)
#define SEG_P		(ONE << 47)
#define SEG_L		(ONE << 53)	/* 64-bit code */
#define SEG_D		(ONE << 54)	/* 32-bit code */
#define SEG_G		(ONE << 55)	/* the limit counts pages */

/* Limit and base where a descriptor has them; BASEHI is the second word of a long one. */
#define SEG_LIM(x)	(((x) & 0xffff) | ((x) & UINT64(0xf0000)) << 32)
#define SEG_BASELO(x)	((CAST64(x) & 0xffffff) << 16 | (CAST64(x) & 0xff000000) << 32)
#define SEG_BASEHI(x)	(CAST64(x) >> 32)

/* Whole descriptors: a 32-bit and a 64-bit segment. */
#define SEG32(type, base, lim, dpl)						\
	((type) | SEG_S | SEG_P | SEG_D | SEG_G | SEG_A | SEG_DPL(dpl) |	\
	 SEG_BASELO(base) | SEG_LIM((lim) >> 12))
#define SEG64(type, dpl)							\
	((type) | SEG_S | SEG_P | SEG_L | SEG_G | SEG_A | SEG_DPL(dpl) |	\
	 SEG_LIM(0xffffffff))

/* Gates of an IDT (SDM 6.14.1): selector and target in their places, and all of it. */
#define SEG_SEL(x)		(((x) & 0xffff) << 16)
#define SEG_TARGETLO(x)		((CAST64(x) & 0xffff) | (CAST64(x) & 0xffff0000) << 32)
#define SEG_TARGETHI(x)		(CAST64(x) >> 32)
#define GATE32(type, sel, target, dpl)						\
	((type) | SEG_DPL(dpl) | SEG_P | SEG_SEL(sel) | SEG_TARGETLO(target))
#define SETGATE(gate, type, sel, target, dpl)					\
	do {									\
		(gate).gd_lo = GATE32(type, sel, target, dpl);			\
		(gate).gd_hi = SEG_TARGETHI(target);				\
	} while (0)

#ifndef __ASSEMBLER__

struct Gatedesc {
	uint64_t gd_lo;
	uint64_t gd_hi;
};

/* For LGDT and LIDT: &pd_lim is the operand, and pd_base is aligned. */
#define PD_SKIP		6

struct Pseudodesc {
	uint16_t pd__garbage1;
	uint16_t pd__garbage2;
	uint16_t pd__garbage3;
	uint16_t pd_lim;
	uint64_t pd_base;
} __attribute__((packed));

/* The 64-bit task state segment; tss_ist[0] is none of the seven. */
struct Tss {
	char tss__ign1[4];
	uint64_t tss_rsp[3];
	uint64_t tss_ist[8];
	char tss__ign2[10];
	uint16_t tss_iomb;
	uint8_t tss_iopb[];
} __attribute__((packed));

/* What FXSAVE writes, as struct fxsave_area in fpu.h. */
struct Fpregs {
	uint16_t cwd;
	uint16_t swd;
	uint16_t twd;
	uint16_t fop;
	uint64_t rip;
	uint64_t rdp;
	uint32_t mxcsr;
	uint32_t mxcsr_mask;
	uint32_t st_space[32];
	uint32_t xmm_space[64];
	uint32_t padding[24];
};

#endif /* !__ASSEMBLER__ */
#endif /* LIBDUNE_REGS_X86_H */
