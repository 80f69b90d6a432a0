/* SPDX-License-Identifier: MIT */
/*
 * The TLB: what the CPU remembers of the page tables (SDM 4.10, APM 5.5).
 *
 * The inline functions act on the calling thread's vCPU alone and fault outside
 * ring 0 of Dune mode.  Who edits an entry that another thread may have used needs
 * dune_tlb_shootdown(); the dune_vm_*() functions do that themselves.
 */
#ifndef LIBDUNE_TLB_H
#define LIBDUNE_TLB_H

#include "mmu-x86.h"

#ifdef __cplusplus
extern "C" {
#endif

/* In a value for CR3: keep what the TLB has of this PCID.  #GP without CR4.PCIDE. */
#define CR3_NOFLUSH	(1UL << 63)
#define CR3_PCID_MASK	0xfffUL

/* Modes of INVPCID (SDM volume 2, INVPCID). */
#define INVPCID_ADDR		0	/* one address of one PCID */
#define INVPCID_CONTEXT		1	/* one PCID, but for global pages */
#define INVPCID_ALL_GLOBAL	2	/* everything */
#define INVPCID_ALL		3	/* all PCIDs, but for global pages */

/**
 * dune_flush_tlb_one - forget what the TLB has for the page around @addr
 *
 * INVLPG: of the PCID that is loaded, and global entries.
 */
static inline void dune_flush_tlb_one(unsigned long addr)
{
	__asm__ volatile("invlpg (%0)" : : "r"(addr) : "memory");
}

/**
 * dune_flush_tlb - forget all of the running page tables but for global pages
 *
 * Loads CR3 with what it holds: with PCIDs, only the loaded one's entries go.
 */
static inline void dune_flush_tlb(void)
{
	unsigned long cr3;

	__asm__ volatile("mov %%cr3, %0\n\tmov %0, %%cr3" : "=r"(cr3) : : "memory");
}

/* Bits of CR3 that this CPU has: without PCIDs not theirs.  Constant after dune_init(). */
extern uint64_t dune_cr3_bits;

/**
 * load_cr3 - switch to other page tables
 * @cr3: the guest-physical address of the root (dune_va_to_pa()), a PCID in bits 0
 *	to 11 and CR3_NOFLUSH
 *
 * On a CPU without PCIDs the last two are ignored, and all but global pages are
 * forgotten: what a program does with several roots works there, and takes longer.
 * Libdune's memory and the stack must be mapped there as in pgroot: a clone is so.
 */
static inline void load_cr3(unsigned long cr3)
{
	cr3 &= dune_cr3_bits;
	/* The stack: an exception right behind must find its GiB mapped. */
	__asm__ volatile("mov %0, %%cr3\n\ttestb $0, (%%rsp)" : : "r"(cr3) : "memory", "cc");
}

/* What CR3 holds: the running root's guest-physical address, and the PCID. */
static inline unsigned long dune_read_cr3(void)
{
	unsigned long cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	return cr3;
}

/**
 * dune_invpcid - INVPCID
 * @mode: INVPCID_*
 *
 * #UD where the CPU lacks it: DUNE_FEAT_INVPCID, or ask dune_enable_pcid().
 */
static inline void dune_invpcid(unsigned long mode, unsigned long pcid, unsigned long addr)
{
	struct { uint64_t pcid, addr; } desc = { pcid, addr };

	__asm__ volatile("invpcid %0, %1" : : "m"(desc), "r"(mode) : "memory");
}

/* The same for PCID 1, as programs written for Dune call it. */
static inline void __invpcid(unsigned long mode, unsigned long addr)
{
	dune_invpcid(mode, 1, addr);
}

/* What dune_enable_pcid() may be asked for besides PCIDs. */
#define DUNE_WANT_INVPCID	1

/**
 * dune_enable_pcid - let CR3 hold PCIDs, for the calling thread
 * @want: 0 or DUNE_WANT_INVPCID
 *
 * dune_enter() does so where the CPU can; this tells whether it could.  Threads and
 * children inherit it.  CR3 must hold PCID 0 if the bit was cleared before.
 *
 * Return: 0; -ENOTSUP the CPU has no PCIDs, or not the instruction asked for;
 * -EINVAL not in Dune mode, or an unknown wish.
 */
int dune_enable_pcid(unsigned int want);

/**
 * dune_tlb_shootdown - forget [@addr, @addr + @len) in the TLBs of all threads
 *
 * For this thread as dune_flush_tlb_one() or, for many pages, dune_flush_tlb(); for
 * the others everything, of all PCIDs and global pages too, before they execute
 * another instruction in Dune mode: those that run are interrupted, those in the
 * kernel flush when they come back.  No exit if no other thread is in Dune mode.
 * Any thread may call it, in or out of Dune mode; it is async-signal-safe.
 *
 * Return: 0, or -errno of the module (-EINVAL: no dune_init()).
 */
int dune_tlb_shootdown(const void *addr, size_t len);

#ifdef __cplusplus
}
#endif

#endif /* LIBDUNE_TLB_H */
