/* SPDX-License-Identifier: GPL-2.0-only */
/* Offsets into struct dune_regs for the entry code; dune.h checks them. */
#ifndef _DUNE_REGS_H
#define _DUNE_REGS_H

#define REGS_RAX	0
#define REGS_RCX	8
#define REGS_RDX	16
#define REGS_RBX	24
#define REGS_RSP	32
#define REGS_RBP	40
#define REGS_RSI	48
#define REGS_RDI	56
/* r8 to r15 follow: 8 * n */

#endif /* _DUNE_REGS_H */
