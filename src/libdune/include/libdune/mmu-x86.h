/* SPDX-License-Identifier: MIT */
/* Page-table entries and page sizes of x86-64, four levels (SDM 4.5, APM 5.3). */
#ifndef LIBDUNE_MMU_X86_H
#define LIBDUNE_MMU_X86_H

#include "types.h"
#include "regs-x86.h"

#define PGSHIFT		12
#define PGSIZE		(1UL << PGSHIFT)
#define PGMASK		(PGSIZE - 1)
#define BIG_PGSHIFT	21
#define BIG_PGSIZE	(1UL << BIG_PGSHIFT)
#define BIG_PGMASK	(BIG_PGSIZE - 1)
#define GIANT_PGSHIFT	30
#define GIANT_PGSIZE	(1UL << GIANT_PGSHIFT)
#define GIANT_PGMASK	(GIANT_PGSIZE - 1)

/* The offset in a page, the number of the page, the start of the page. */
#define PGOFF(la)	((uintptr_t)(la) & PGMASK)
#define PPN(la)		((uintptr_t)(la) >> PGSHIFT)
#define PGADDR(la)	((uintptr_t)(la) & ~PGMASK)
#define BIG_PGOFF(la)	((uintptr_t)(la) & BIG_PGMASK)
#define BIG_PGADDR(la)	((uintptr_t)(la) & ~BIG_PGMASK)

/* Levels are counted from 0, the table of 4 KB entries, to 3, the root. */
#define NPTBITS		9
#define NPTENTRIES	(1 << NPTBITS)
#define NPTLVLS		3
#define PDSHIFT(n)	(PGSHIFT + NPTBITS * (n))
#define PDXMASK		(NPTENTRIES - 1)
#define PDX(n, la)	(((uintptr_t)(la) >> PDSHIFT(n)) & PDXMASK)
#define PDADDR(n, i)	((uintptr_t)(i) << PDSHIFT(n))

#define PTE_P		0x001UL		/* present */
#define PTE_W		0x002UL		/* writable */
#define PTE_U		0x004UL		/* ring 3 may use it */
#define PTE_PWT		0x008UL
#define PTE_PCD		0x010UL		/* uncached */
#define PTE_A		0x020UL		/* accessed: set by the CPU */
#define PTE_D		0x040UL		/* written to: set by the CPU */
#define PTE_PS		0x080UL		/* a 2 MB or 1 GB page */
#define PTE_G		0x100UL		/* stays at a load of CR3 */
#define PTE_COW		0x200UL		/* software: copy when it is written to */
#define PTE_AVAIL	0xe00UL		/* three bits that the CPU leaves alone; PTE_COW is one */
#define PTE_AVAIL2	(0x7ffUL << 52)	/* eleven more, of which libdune has two, see below */
#define PTE_PAT		0x080UL		/* of a 4 KB entry, where PTE_PS is in others */
#define PTE_PAT_PS	0x1000UL	/* of a larger one */
#define PTE_USR1	(1UL << 62)	/* software, the program's */
#define PTE_USR2	(1UL << 61)
#define PTE_USR3	(1UL << 60)
#define PTE_NX		(1UL << 63)	/* no instruction fetch */

/*
 * Software bits of libdune's own.  LINEAR: a 2 MB or 1 GB entry that libdune made;
 * it is split where somebody wants a smaller one.  HELD: not present, but the
 * address in it is that of a page (after PERM_NONE).
 */
#define PTE_LINEAR	(1UL << 58)
#define PTE_HELD	(1UL << 57)

#define PTE_ADDR(pte)	((physaddr_t)(pte) & 0x000ffffffffff000UL)
#define PTE_FLAGS(pte)	((physaddr_t)(pte) & ~0x000ffffffffff000UL)

/*
 * dune_init(true): a GiB that nobody has touched.  The bit is a reserved one there,
 * so the access is a page fault with FEC_RSV, which libdune answers by itself; to
 * software it is as good as absent.  GIB: in an entry of level 2; TOP: of level 3.
 */
#define PTE_LAZY_GIB	(PTE_P | PTE_PS | 0x2000UL)
#define PTE_LAZY_TOP	(PTE_P | PTE_PS)

/* Is it one of those?  @level: of the table that the entry is in. */
static inline bool dune_pte_lazy(uint64_t pte, int level)
{
	return level == 3 ? (pte & PTE_LAZY_TOP) == PTE_LAZY_TOP :
	       level == 2 && (pte & PTE_LAZY_GIB) == PTE_LAZY_GIB;
}

#endif /* LIBDUNE_MMU_X86_H */
